import { defineConfig, type Plugin } from 'vite';

/** Where `vite dev` sends what only the broadcaster can answer. */
const BROADCASTER = process.env.SHOAL_URL ?? 'http://127.0.0.1:8080';

/** In development: the same page addresses as the broadcaster's. */
function pages(): Plugin {
  return {
    name: 'shoal-pages',
    configureServer(server) {
      server.middlewares.use((request, _response, next) => {
        const page = /^\/(watch|embed)\/[^/?]+|^\/(studio)\/?(?=\?|$)/.exec(request.url ?? '');
        if (page) request.url = `/${page[1] ?? page[2] ?? 'index'}.html`;
        next();
      });
    },
  };
}

export default defineConfig({
  plugins: [pages()],
  appType: 'mpa',
  build: {
    target: 'es2022',
    // Every supported browser knows module preload; the polyfill would be one more inline script.
    modulePreload: { polyfill: false },
    // No data: URLs, so that a content security policy can stay at 'self'.
    assetsInlineLimit: 0,
    // hls.js alone is over the default limit of 500 kB.
    chunkSizeWarningLimit: 700,
    rolldownOptions: {
      input: ['index.html', 'watch.html', 'embed.html', 'studio.html'],
    },
  },
  server: {
    proxy: Object.fromEntries(
      ['/live', '/api', '/streams.json'].map((path) => [path, { target: BROADCASTER }]),
    ),
  },
  test: { include: ['src/**/*.test.ts', 'e2e/**/*.unit.ts'] },
} as Parameters<typeof defineConfig>[0]);
