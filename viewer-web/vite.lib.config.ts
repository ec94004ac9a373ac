import { defineConfig } from 'vite';

/** The player as an ES module for other pages; hls.js stays a dependency of its user. */
export default defineConfig({
  publicDir: false,
  build: {
    target: 'es2022',
    outDir: 'lib',
    minify: false,
    lib: { entry: 'src/index.ts', formats: ['es'], fileName: 'index' },
    rolldownOptions: { external: ['hls.js'] },
  },
});
