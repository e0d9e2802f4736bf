/// <reference types="svelte" />
/// <reference types="vite/client" />

declare module 'virtual:licenses' {
  const licenses: import('../build/licenses').Licenses
  export default licenses
}
