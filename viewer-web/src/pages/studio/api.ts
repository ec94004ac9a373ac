/** The broadcaster's API as the studio uses it, `/api/v1`. The token goes in a header, never in an address. */
import { bool, numberOrNull, record, text } from './json';
import { parseResources, type LimitsChange, type Resources } from './resources';

export type StreamState = 'waiting' | 'live' | 'grace' | 'failed' | 'ended';

export interface Rendition {
  id: string;
  kind: string;
  codec: string;
  width: number;
  height: number;
  bitrate: number;
  state: string;
  /** Why it is not live, or not made as planned. */
  reason: string;
  lowered: 'no' | 'effort' | 'frame_rate';
  enabled: boolean;
  encode: Encode;
  priority: Priority;
  encoder: string;
  memoryBytes: number | null;
  memoryBytesMax: number | null;
  watched: boolean;
  cores: number | null;
  lagMs: number | null;
  msn: number | null;
}

export type Encode = 'always' | 'on_demand';
export type Priority = 'low' | 'medium' | 'high';

/** What the operator wants of a quality. */
export interface QualityChange {
  enabled?: boolean;
  encode?: Encode;
  priority?: Priority;
}

export interface Ingest {
  bitrateBps: number | null;
  keyframeIntervalS: number | null;
  bFrames: boolean | null;
  framesDropped: number | null;
  codec: string;
  width: number;
  height: number;
  fps: number;
}

export interface Stream {
  name: string;
  title: string;
  source: string;
  state: StreamState;
  /** Why it is in this state. */
  reason: string;
  session: number | null;
  startedAt: string | null;
  viewers: number;
  ingestUrl: string | null;
  ingest: Ingest | null;
  renditions: Rendition[];
  notes: string[];
}

/** A stream's key, known only in the moment it is made. */
export interface NewKey {
  ingestUrl: string | null;
  streamKey: string | null;
}

export interface NewStream {
  name: string;
  title: string;
  source: string;
  /** Whether a file begins again at its end. */
  repeat: boolean;
  ladder: string[] | 'auto' | 'passthrough';
}

/** A call that failed, with words for the operator. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** An answer should not take longer; what takes longer will not come. */
const TIMEOUT_MS = 15_000;

export class Api {
  constructor(private readonly token: string) {}

  async streams(): Promise<Stream[]> {
    const answer = await this.#call('GET', '/streams');
    const list = Array.isArray(answer) ? answer : record(answer).streams;
    return (Array.isArray(list) ? list : []).map(parseStream);
  }

  async stream(name: string): Promise<Stream> {
    return parseStream(await this.#call('GET', path(name)));
  }

  async create(stream: NewStream): Promise<NewKey> {
    return parseKey(await this.#call('POST', '/streams', stream));
  }

  async delete(name: string): Promise<void> {
    await this.#call('DELETE', path(name));
  }

  async start(name: string): Promise<void> {
    await this.#call('POST', `${path(name)}/start`, {});
  }

  async stop(name: string): Promise<void> {
    await this.#call('POST', `${path(name)}/stop`, {});
  }

  async newKey(name: string): Promise<NewKey> {
    return parseKey(await this.#call('POST', `${path(name)}/key`, {}));
  }

  async changeQuality(name: string, id: string, change: QualityChange): Promise<void> {
    await this.#call('PATCH', `${path(name)}/renditions/${encodeURIComponent(id)}`, change);
  }

  async resources(): Promise<Resources> {
    return parseResources(await this.#call('GET', '/resources'));
  }

  async changeLimits(change: LimitsChange): Promise<Resources> {
    return parseResources(await this.#call('PATCH', '/resources', change));
  }

  async #call(method: string, pathname: string, body?: unknown): Promise<unknown> {
    const response = await fetch(`/api/v1${pathname}`, {
      method,
      headers: {
        authorization: `Bearer ${this.token}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      cache: 'no-store',
      signal: AbortSignal.timeout(TIMEOUT_MS),
    }).catch(() => {
      throw new ApiError(0, 'UNREACHABLE', 'The server does not answer.');
    });
    const answer: unknown = await response.json().catch(() => null);
    if (response.ok) return answer;
    const error = record(record(answer).error);
    throw new ApiError(
      response.status,
      text(error.code) || 'UNKNOWN',
      text(error.message) || `The server answered with status ${response.status}.`,
    );
  }
}

function path(name: string): string {
  return `/streams/${encodeURIComponent(name)}`;
}

const STATES: readonly StreamState[] = ['waiting', 'live', 'grace', 'failed', 'ended'];

/** Reads a stream as the API gives it; what is missing is empty, never invented. */
export function parseStream(value: unknown): Stream {
  const stream = record(value);
  const renditions = Array.isArray(stream.renditions) ? stream.renditions : [];
  const notes = Array.isArray(stream.notes) ? stream.notes : [];
  return {
    name: text(stream.name),
    title: text(stream.title),
    source: text(stream.source),
    state: STATES.find((known) => known === stream.state) ?? 'waiting',
    reason: text(record(stream.reason).message),
    session: numberOrNull(stream.session),
    startedAt: text(stream.started_at) || null,
    viewers: numberOrNull(stream.viewers) ?? 0,
    ingestUrl: text(stream.ingest_url) || null,
    ingest: parseIngest(stream.ingest),
    renditions: renditions.map(parseRendition),
    notes: notes.map((note) => text(note) || text(record(note).message)).filter(Boolean),
  };
}

function parseIngest(value: unknown): Ingest | null {
  if (typeof value !== 'object' || value === null) return null;
  const ingest = record(value);
  return {
    bitrateBps: numberOrNull(ingest.bitrate_bps),
    keyframeIntervalS: numberOrNull(ingest.keyframe_interval_s),
    bFrames: typeof ingest.b_frames === 'boolean' ? ingest.b_frames : null,
    framesDropped: numberOrNull(ingest.frames_dropped),
    codec: text(ingest.codec),
    width: numberOrNull(ingest.width) ?? 0,
    height: numberOrNull(ingest.height) ?? 0,
    fps: numberOrNull(ingest.fps) ?? 0,
  };
}

const LOWERED = ['no', 'effort', 'frame_rate'] as const;
const PRIORITIES: readonly Priority[] = ['low', 'medium', 'high'];

function parseRendition(value: unknown): Rendition {
  const rendition = record(value);
  return {
    id: text(rendition.id),
    kind: text(rendition.kind),
    codec: text(rendition.codec),
    width: numberOrNull(rendition.width) ?? 0,
    height: numberOrNull(rendition.height) ?? 0,
    bitrate: numberOrNull(rendition.bitrate) ?? 0,
    state: text(rendition.state),
    reason: text(rendition.reason),
    lowered: LOWERED.find((known) => known === rendition.lowered) ?? 'no',
    enabled: bool(rendition.enabled) ?? true,
    encode: rendition.encode === 'on_demand' ? 'on_demand' : 'always',
    priority: PRIORITIES.find((known) => known === rendition.priority) ?? 'medium',
    encoder: text(rendition.encoder),
    memoryBytes: numberOrNull(rendition.memory_bytes),
    memoryBytesMax: numberOrNull(rendition.memory_bytes_max),
    watched: bool(rendition.watched) ?? false,
    cores: numberOrNull(rendition.cores),
    lagMs: numberOrNull(rendition.lag_ms),
    msn: numberOrNull(rendition.msn),
  };
}

function parseKey(value: unknown): NewKey {
  const answer = record(value);
  return { ingestUrl: text(answer.ingest_url) || null, streamKey: text(answer.stream_key) || null };
}
