/** `info.json`: what a stream is and how it is doing. */
import type { StreamState } from './playback';

/** One rendition as the broadcaster describes it. */
export interface RenditionInfo {
  id: string;
  kind: 'video' | 'audio';
  codec: string;
  width: number;
  height: number;
  fps: number;
  /** Bits per second. */
  bitrate: number;
  label: string;
}

export interface StreamInfo {
  stream: string;
  title: string;
  state: StreamState;
  broadcast: string | number | null;
  session: number | null;
  renditions: RenditionInfo[];
  latencyTargetMs: number | null;
  startedAt: string | null;
}

const STATES: readonly StreamState[] = [
  'waiting',
  'live',
  'grace',
  'restarting',
  'failed',
  'ended',
];

/** Reads what came over the wire; null when it is not a stream's description. */
export function parseInfo(value: unknown): StreamInfo | null {
  if (!isRecord(value)) return null;
  const state = STATES.find((known) => known === value.state);
  if (!state) return null;
  const renditions = Array.isArray(value.renditions) ? value.renditions : [];
  const broadcast = value.broadcast;
  return {
    stream: text(value.stream),
    title: text(value.title),
    state,
    broadcast: typeof broadcast === 'string' || typeof broadcast === 'number' ? broadcast : null,
    session: typeof value.session === 'number' ? value.session : null,
    renditions: renditions.flatMap(parseRendition),
    latencyTargetMs: number(value.latency_target_ms) || null,
    startedAt: text(value.started_at) || null,
  };
}

function parseRendition(value: unknown): RenditionInfo[] {
  if (!isRecord(value) || typeof value.id !== 'string') return [];
  return [
    {
      id: value.id,
      kind: value.kind === 'audio' ? 'audio' : 'video',
      codec: text(value.codec),
      width: number(value.width),
      height: number(value.height),
      fps: number(value.fps),
      bitrate: number(value.bitrate),
      label: text(value.label),
    },
  ];
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function number(value: unknown): number {
  return typeof value === 'number' && Number.isFinite(value) ? value : 0;
}
