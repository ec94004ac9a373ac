/** How hls.js is set up: Low-Latency HLS near the live edge, with its choices gated by the source. */
import Hls, {
  type FragmentLoaderContext,
  type HlsConfig,
  type LoadPolicy,
  type LoaderCallbacks,
  type LoaderConfiguration,
  type LoaderContext,
  type LoaderResponse,
  type RetryConfig,
} from 'hls.js';
import type { SourceEvents } from './source';

/** Bandwidth to assume before the first measurement: enough for 720p, where most viewers end up. */
const BANDWIDTH_GUESS_BPS = 4_000_000;

/** What hls.js asks back. */
export interface Gate {
  /** A level that the bandwidth suggests; the answer is the level to use. */
  choose(wanted: number): number;
  /** A level's playlist is not there any more; true: that is looked after, nothing has failed. */
  leave(url: string): boolean;
}

export function hlsConfig(
  bandwidthBps: number | null,
  events: SourceEvents,
  gate: Gate,
): Partial<HlsConfig> {
  return {
    lowLatencyMode: true,
    // For fragmented MP4 there is little to do off the main thread, and a worker from a blob: URL
    // would cost start-up time and a hole in the content security policy.
    enableWorker: false,
    // Speed is steered by rate.ts, which also slows down.
    maxLiveSyncPlaybackRate: 1,
    // A stall makes the player stay this much further back, in seconds.
    liveSyncOnStallIncrease: 0.25,
    liveDurationInfinity: true,
    startFragPrefetch: true,
    testBandwidth: false,
    // Asking the browser what it decodes smoothly takes longer than decoding the first frame.
    useMediaCapabilities: false,
    abrEwmaDefaultEstimate: bandwidthBps ?? BANDWIDTH_GUESS_BPS,
    capLevelToPlayerSize: true,
    // The live window is 30 s: the whole of it can be rewound without loading it twice.
    backBufferLength: 30,
    maxBufferLength: 30,
    // A pinned quality stays pinned; hls-source.ts leaves it when it is paused.
    preserveManualLevelOnError: true,
    // A quality that failed may be tried again after this.
    errorPenaltyExpireMs: 10_000,
    enableInterstitialPlayback: false,
    enableID3MetadataCues: false,
    enableEmsgMetadataCues: false,
    enableWebVTT: false,
    enableIMSC1: false,
    enableCEA708Captions: false,
    loader: meteredLoader(events, gate),
    abrController: gatedAbr(gate),
    manifestLoadPolicy: { default: policy(8_000, 10_000, 0) },
    // Longer than a blocked reload waits at the server: 3 × target duration, 18 s at most. hls.js
    // itself gives up sooner on a reload that asks for a part.
    playlistLoadPolicy: { default: policy(20_000, 25_000, 3) },
    fragLoadPolicy: { default: policy(6_000, 20_000, 3) },
  };
}

function policy(firstByteMs: number, wholeMs: number, tries: number): LoadPolicy['default'] {
  const retry: RetryConfig = {
    maxNumRetry: tries,
    retryDelayMs: 250,
    maxRetryDelayMs: 1_000,
    backoff: 'exponential',
    // hls.js gives up at once when a connection is refused; a broadcaster that restarts is just that.
    shouldRetry: (config, count, _isTimeout, response, retry) => {
      const refused = response?.code === 0 && navigator.onLine;
      return retry || (refused && (config?.maxNumRetry ?? 0) > count);
    },
  };
  return {
    maxTimeToFirstByteMs: firstByteMs,
    maxLoadTimeMs: wholeMs,
    timeoutRetry: { ...retry, retryDelayMs: 0 },
    errorRetry: retry,
  };
}

/**
 * The default loader, with its bytes counted where they arrive (parts, segments and init) and with
 * an ear for playlists that are gone: hls.js would ask again for what is gone, and then keep away
 * from it, but a paused quality is to be left at once and comes back.
 */
function meteredLoader(events: SourceEvents, gate: Gate): HlsConfig['loader'] {
  const Base = Hls.DefaultConfig.loader;
  return class MeteredLoader extends Base {
    override load(
      context: LoaderContext,
      config: LoaderConfiguration,
      callbacks: LoaderCallbacks<LoaderContext>,
    ): void {
      if (isMedia(context)) super.load(context, config, metered(callbacks, events));
      else if (isPlaylist(context, 'level')) {
        super.load(context, config, whole(leaving(callbacks, gate)));
      } else if (isPlaylist(context, 'audioTrack')) super.load(context, config, whole(callbacks));
      else super.load(context, config, callbacks);
    }
  };
}

function metered(
  callbacks: LoaderCallbacks<LoaderContext>,
  events: SourceEvents,
): LoaderCallbacks<LoaderContext> {
  return {
    ...callbacks,
    onSuccess: (response: LoaderResponse, stats, loaded, details) => {
      const { start, first } = stats.loading;
      events.onLoaded(stats.loaded, first > start ? first - start : null);
      callbacks.onSuccess(response, stats, loaded, details);
    },
    onError: (error, loaded, details, stats) => {
      events.onLoadFailed();
      callbacks.onError(error, loaded, details, stats);
    },
    onTimeout: (stats, loaded, details) => {
      events.onLoadFailed();
      callbacks.onTimeout(stats, loaded, details);
    },
  };
}

function leaving(
  callbacks: LoaderCallbacks<LoaderContext>,
  gate: Gate,
): LoaderCallbacks<LoaderContext> {
  return {
    ...callbacks,
    onError: (error, context, details, stats) => {
      if (error.code === 404 && gate.leave(context.url)) return;
      callbacks.onError(error, context, details, stats);
    },
  };
}

/**
 * Playlists without delta updates, which hls.js 1.7 merges wrongly in two ways. A quality that has
 * just come back lists less of the past than its sound does; the sound then begins before 0, and what
 * was skipped is lost. And a discontinuity before which only parts follow is counted in a whole
 * playlist but not in an update: the sound then waits for a whole segment of video, and stalls.
 */
function whole(callbacks: LoaderCallbacks<LoaderContext>): LoaderCallbacks<LoaderContext> {
  return {
    ...callbacks,
    onSuccess: (response: LoaderResponse, stats, context, details) => {
      const { data } = response;
      if (typeof data === 'string') response.data = data.replace(/,?CAN-SKIP-UNTIL=[\d.]+/, '');
      callbacks.onSuccess(response, stats, context, details);
    },
  };
}

/** hls.js's own choice of quality, acted upon only where the gate says so. */
function gatedAbr(gate: Gate): HlsConfig['abrController'] {
  const Base = Hls.DefaultConfig.abrController;
  return class GatedAbr extends Base {
    /** What the gate answered instead of the level that was wanted; -1 when it let that pass. */
    #held = -1;

    override get nextAutoLevel(): number {
      const wanted = super.nextAutoLevel;
      if (wanted === -1) return wanted;
      const level = gate.choose(wanted);
      this.#held = level === wanted ? -1 : level;
      return level;
    }

    override set nextAutoLevel(level: number) {
      // hls.js repeats here what it was answered, and would then want nothing else until the next
      // media arrives; but the boundary at which the change is due lies before that.
      if (level !== this.#held) super.nextAutoLevel = level;
      this.#held = -1;
    }

    /** Asked for once, before anything is loaded. */
    override get firstAutoLevel(): number {
      return gate.choose(super.firstAutoLevel);
    }
  };
}

function isMedia(context: LoaderContext): context is FragmentLoaderContext {
  return 'frag' in context;
}

/** A media playlist, of video (`level`) or of sound alone. */
function isPlaylist(context: LoaderContext, kind: 'level' | 'audioTrack'): boolean {
  const type: unknown = 'type' in context ? context.type : null;
  return type === kind;
}
