// Send the requests of the page to streamcore, so that it needs no CORS, and the browser no key.
const service = process.env.STREAMCORE_URL ?? 'http://127.0.0.1:8000';

export default {
  rewrites: async () => [
    { source: '/api/chat', destination: `${service}/api/chat` },
    { source: '/api/chat/:path*', destination: `${service}/api/chat/:path*` },
  ],
};
