/** `streams.json`: the public list of streams that are on air. */

export interface ListedStream {
  name: string;
  title: string;
  state: string;
  startedAt: string | null;
  viewers: number;
}

/** Reads what came over the wire; entries that make no sense are left out. */
export function parseStreams(value: unknown): ListedStream[] {
  if (typeof value !== 'object' || value === null || !('streams' in value)) return [];
  if (!Array.isArray(value.streams)) return [];
  return value.streams.flatMap((entry: unknown) => {
    if (typeof entry !== 'object' || entry === null) return [];
    const { name, title, state, started_at, viewers } = entry as Record<string, unknown>;
    if (typeof name !== 'string' || (state !== 'live' && state !== 'grace')) return [];
    return [
      {
        name,
        title: typeof title === 'string' ? title : '',
        state,
        startedAt: typeof started_at === 'string' ? started_at : null,
        viewers: typeof viewers === 'number' ? viewers : 0,
      },
    ];
  });
}
