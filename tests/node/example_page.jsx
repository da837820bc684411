// Show the page of examples/nextjs-chat without Next.js.
import { createRoot } from 'react-dom/client';
import Page from '../../examples/nextjs-chat/app/page.tsx';

createRoot(document.getElementById('root')).render(<Page />);
