// Print the version of Node.js, and that of a package.
import { readFileSync } from 'node:fs';
import { json } from 'node:stream/consumers';

const [name] = await json(process.stdin);
const { version } = JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url)));
console.log(JSON.stringify({ node: Number(process.versions.node.split('.')[0]), package: version }));
