/** What the broadcaster's addresses say: `/live/{stream}/{rendition}/media.m3u8`, `/live/{stream}/{session}/{rendition}/…`. */

/** The rendition of a media playlist's address. */
export function renditionOf(playlistUrl: string): string | null {
  return /\/([a-z0-9-]{1,32})\/[a-z]+\.m3u8(?:[?#]|$)/.exec(playlistUrl)?.[1] ?? null;
}

/** The session of a segment's, part's or init's address. */
export function sessionOf(mediaUrl: string): number | null {
  const digits = /\/(\d{1,10})\/[a-z0-9-]{1,32}\/[^/]+$/.exec(mediaUrl)?.[1];
  return digits === undefined ? null : Number(digits);
}

/** The stream of a page's address: `/watch/{stream}` or `/embed/{stream}`. */
export function streamOf(pathname: string): string | null {
  return /^\/(?:watch|embed)\/([a-z0-9-]{1,64})\/?$/.exec(pathname)?.[1] ?? null;
}

/** The renditions that a multivariant playlist lists. */
export function renditionsIn(master: string, masterUrl: string): string[] {
  const lines = master.split('\n').map((line) => line.trim());
  const addresses = lines.filter((line) => line !== '' && !line.startsWith('#'));
  return addresses.flatMap((address) => {
    // An address may stand alone, without the folder that it is in.
    const folder = masterUrl.replace(/[^/]*(?:[?#].*)?$/, '');
    return renditionOf(address.includes('://') ? address : folder + address) ?? [];
  });
}
