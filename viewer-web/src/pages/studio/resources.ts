/** What is used of the machine, and by whom, as `/api/v1/resources` gives it. */
import { bool, list, numberOrNull, record, text } from './json';

/** The switches that the studio shows; there are more limits in the API. */
export interface LimitsChange {
  degradation?: boolean;
  on_demand?: boolean;
}

export interface Worker {
  stream: string;
  /** Percent of one core. */
  cpuPercent: number | null;
  memoryBytes: number | null;
  /** 1 is real time. */
  speed: number | null;
}

/** A quality that was switched, and why. */
export interface QualityEvent {
  at: string;
  text: string;
  byLoad: boolean;
}

export interface Resources {
  degradation: boolean;
  onDemand: boolean;
  /** Null while nobody looks at the machine. */
  host: { cores: number; cpuBusy: number; memoryBytes: number; memoryLimitBytes: number } | null;
  workers: Worker[];
  /** Newest first. */
  changes: QualityEvent[];
}

export function parseResources(value: unknown): Resources {
  const all = record(value);
  const limits = record(all.limits);
  return {
    degradation: bool(limits.degradation) ?? true,
    onDemand: bool(limits.on_demand) ?? true,
    host: parseHost(all.host),
    workers: list(all.streams).flatMap(parseWorker),
    changes: list(record(all.changes).recent).map(parseChange).reverse(),
  };
}

function parseHost(value: unknown): Resources['host'] {
  const host = record(value);
  const cores = numberOrNull(host.cores);
  if (cores === null) return null;
  return {
    cores,
    cpuBusy: numberOrNull(host.cpu_busy) ?? 0,
    memoryBytes: numberOrNull(host.memory_bytes) ?? 0,
    memoryLimitBytes: numberOrNull(host.memory_limit_bytes) ?? 0,
  };
}

function parseWorker(value: unknown): Worker[] {
  const stream = record(value);
  if (stream.worker === null || stream.worker === undefined) return [];
  const worker = record(stream.worker);
  return [
    {
      stream: text(stream.name),
      cpuPercent: numberOrNull(worker.cpu_percent),
      memoryBytes: numberOrNull(worker.memory_bytes),
      speed: numberOrNull(stream.speed),
    },
  ];
}

function parseChange(value: unknown): QualityEvent {
  const change = record(value);
  const quality = `${text(change.stream)} ${text(change.rendition)}`;
  const reason = text(change.reason);
  const what =
    change.on === false
      ? 'paused'
      : change.lowered === 'effort'
        ? 'made with less effort'
        : change.lowered === 'frame_rate'
          ? 'made at half its frame rate'
          : 'made again';
  return {
    at: text(change.at),
    // A quality that is back was away for this reason.
    text: `${quality} ${what}${reason === '' ? '' : what === 'made again' ? `, was: ${reason}` : `: ${reason}`}`,
    byLoad: bool(change.by_load) ?? false,
  };
}
