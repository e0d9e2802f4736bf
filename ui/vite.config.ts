// How the pages are built: relative addresses (the desktop window and the server both serve them from their root), nothing
// inline, so that a content security policy of script-src 'self' holds.
import { svelte } from '@sveltejs/vite-plugin-svelte'
import { svelteTesting } from '@testing-library/svelte/vite'
import { defineConfig } from 'vitest/config'
import { licenses } from './build/licenses.ts'

const api = process.env.API ?? 'http://127.0.0.1:8000'

export default defineConfig({
  base: './',
  plugins: [svelte(), svelteTesting(), licenses()],
  // The texts of all licenses are one large part, which only their dialog loads.
  build: { target: 'es2022', modulePreload: { polyfill: false }, assetsInlineLimit: 0, chunkSizeWarningLimit: 2000 },
  // Found by itself only when the first chart is drawn, which would load the page anew.
  optimizeDeps: { include: ['uplot'] },
  server: {
    strictPort: true,
    // The license texts lie above this folder.
    fs: { allow: ['..'] },
    proxy: {
      '/api': {
        target: api,
        changeOrigin: true,
        configure: (proxy) => {
          // The server answers pages of its own origin only; this proxy stands in for it.
          proxy.on('proxyReq', (request) => {
            for (const name of ['origin', 'referer', 'sec-fetch-site']) request.removeHeader(name)
          })
        },
      },
    },
  },
  test: {
    environment: 'jsdom',
    setupFiles: ['src/test/setup.ts'],
    include: ['src/**/*.test.ts'],
    restoreMocks: true,
    // axe looks at a whole screen, also on a machine that is busy training.
    testTimeout: 30_000,
  },
})
