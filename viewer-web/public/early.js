/** Asks for the playlist while the player itself is still loading. Not a module, so that it waits for nothing. */
(() => {
  const stream = /^\/(?:watch|embed)\/([a-z0-9-]{1,64})\/?$/.exec(location.pathname)?.[1];
  if (stream === undefined) return;
  const link = document.createElement('link');
  link.rel = 'preload';
  link.as = 'fetch';
  // As the player will ask, or the answer is not taken.
  link.crossOrigin = 'anonymous';
  link.href = `/live/${stream}/master.m3u8`;
  document.head.append(link);
})();
