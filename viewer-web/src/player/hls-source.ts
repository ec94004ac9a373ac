/** Media by hls.js: Low-Latency HLS with parts, over Media Source Extensions. */
import Hls, {
  ErrorDetails,
  ErrorTypes,
  Events,
  type ErrorData,
  type FragmentLoaderContext,
  type HlsConfig,
  type Level,
  type LoadPolicy,
  type LoaderCallbacks,
  type LoaderConfiguration,
  type LoaderContext,
  type LoaderResponse,
  type RetryConfig,
} from 'hls.js';
import { Boundary } from './boundary';
import type { Fault } from './playback';
import { renditionOf, sessionOf } from './path';
import type { Quality, Source, SourceEvents } from './source';

/** Whether this browser can play this way (Media Source or Managed Media Source). */
export function canUseHls(): boolean {
  return Hls.isSupported();
}

/** Bandwidth to assume before the first measurement: enough for 720p, where most viewers end up. */
const BANDWIDTH_GUESS_BPS = 4_000_000;

/** From this much buffered on, a change of quality replaces it, in seconds. */
const REPLACE_FROM_S = 4;

/** With less than this buffered, a change does not wait for the end of a segment, in seconds. */
const EMERGENCY_S = 0.5;

/** What to open, and how. */
export interface HlsSourceOptions {
  url: string;
  quality: string | null;
  /** From an earlier visit, if known. */
  bandwidthBps: number | null;
  events: SourceEvents;
}

export class HlsSource implements Source {
  readonly #hls: Hls;
  readonly #video: HTMLVideoElement;
  readonly #stop = new AbortController();
  readonly #boundary = new Boundary();
  #pinned: string | null;
  /** The level to go on with at the next boundary, -1 for automatic; null when nothing is to change. */
  #wanted: number | null = null;
  #playing = -1;
  #shown: string | null = null;
  #session: number | null = null;

  constructor(video: HTMLVideoElement, options: HlsSourceOptions) {
    this.#video = video;
    this.#pinned = options.quality;
    this.#hls = new Hls({
      ...hlsConfig(options),
      abrController: alignedAbr(() => this.#mayChange()),
    });
    this.#listen(options.events);
    this.#hls.attachMedia(video);
    this.#hls.loadSource(options.url);
  }

  get qualities(): readonly Quality[] {
    return this.#hls.levels.map(qualityOf).reverse();
  }

  setQuality(id: string | null): void {
    this.#pinned = id;
    this.#wanted = this.#levelOf(id);
    this.#applyWanted();
  }

  load(): void {
    this.#boundary.handleReset();
    this.#hls.startLoad(-1);
  }

  recover(): void {
    this.#boundary.handleReset();
    this.#hls.recoverMediaError();
  }

  get livePositionS(): number | null {
    return this.#hls.liveSyncPosition;
  }

  get distance(): { latencyS: number; targetS: number } | null {
    const targetS = this.#hls.targetLatency;
    if (targetS === null || !this.#hls.latestLevelDetails?.live) return null;
    return { latencyS: this.#hls.latency, targetS };
  }

  get playingDateMs(): number | null {
    return this.#hls.playingDate?.getTime() ?? null;
  }

  get bandwidthBps(): number {
    const estimate = this.#hls.bandwidthEstimate;
    return Number.isFinite(estimate) ? Math.round(estimate) : 0;
  }

  destroy(): void {
    this.#stop.abort();
    this.#hls.destroy();
  }

  #listen(events: SourceEvents): void {
    const hls = this.#hls;
    hls.on(Events.MANIFEST_PARSED, () => {
      const level = this.#levelOf(this.#pinned);
      if (level !== -1) {
        hls.startLevel = level;
        hls.loadLevel = level;
      }
      events.onOpened();
    });
    hls.on(Events.LEVEL_UPDATED, (_event, { details }) => {
      this.#applyWanted();
      if (!details.live) events.onEndList();
      const session = sessionOf(details.fragments.at(-1)?.url ?? '');
      if (session !== null && session !== this.#session) {
        this.#session = session;
        events.onSession(session);
      }
    });
    hls.on(Events.LEVEL_SWITCHED, (_event, { level }) => {
      this.#playing = level;
      this.#reportQuality(events);
    });
    this.#video.addEventListener('resize', () => this.#reportQuality(events), {
      signal: this.#stop.signal,
    });
    hls.on(Events.FRAG_LOADED, (_event, { frag, part, payload }) => {
      const { start, duration } = part ?? frag;
      events.onStretch(start, start + duration, payload.byteLength);
      const type: string = frag.type;
      if (type !== 'main' || typeof frag.sn !== 'number') return;
      this.#boundary.handleLoaded(frag.sn, part?.index ?? null);
      this.#applyWanted();
    });
    hls.on(Events.ERROR, (_event, data) => {
      if (!data.fatal) return;
      events.onFault(faultOf(data), data.details);
    });
  }

  /** Goes over to the picked quality as soon as that costs nothing. */
  #applyWanted(): void {
    const wanted = this.#wanted;
    if (wanted === null) return;
    const bufferS = this.#hls.mainForwardBufferInfo?.len ?? 0;
    if (bufferS >= REPLACE_FROM_S) {
      // Far from the live edge nobody would see the change for long: replace what is buffered.
      this.#wanted = null;
      this.#hls.nextLevel = wanted;
    } else if (wanted === -1 || this.#mayChange()) {
      this.#wanted = null;
      this.#hls.loadLevel = wanted;
    }
  }

  #mayChange(): boolean {
    const details = this.#hls.levels[this.#hls.loadLevel]?.details;
    if (!details?.partList) return true;
    const bufferS = this.#hls.mainForwardBufferInfo?.len ?? 0;
    if (bufferS < EMERGENCY_S) return true;
    const parts = details.partList.map(({ fragment, index }) => ({
      sn: fragment.sn,
      index,
    }));
    return this.#boundary.isAt({ endSn: details.endSN, parts });
  }

  /**
   * hls.js tells what the buffer holds at the playhead, and wavers where two qualities overlap; the
   * size of the picture tells what is shown. Only what both agree on counts.
   */
  #reportQuality(events: SourceEvents): void {
    const { levels } = this.#hls;
    const { videoWidth, videoHeight } = this.#video;
    const fits = levels.filter(
      ({ width, height }) => width === videoWidth && height === videoHeight,
    );
    const playing = levels[this.#playing];
    const shown = playing && (fits.length === 0 || fits.includes(playing)) ? playing : fits[0];
    if (!shown || (shown !== playing && fits.length > 1)) return;
    const { id } = qualityOf(shown);
    if (id === this.#shown) return;
    this.#shown = id;
    events.onQuality(id);
  }

  #levelOf(id: string | null): number {
    return id === null ? -1 : this.#hls.levels.findIndex((level) => qualityOf(level).id === id);
  }
}

function qualityOf(level: Level): Quality {
  return {
    id: renditionOf(level.url[0] ?? '') ?? (level.name || `${level.height}p`),
    width: level.width,
    height: level.height,
    fps: level.frameRate,
    bitrate: level.bitrate,
  };
}

function faultOf(data: ErrorData): Fault {
  if (data.details === ErrorDetails.MANIFEST_INCOMPATIBLE_CODECS_ERROR) return 'unsupported';
  if (data.details === ErrorDetails.MANIFEST_LOAD_ERROR && data.response?.code === 404) {
    return 'not-found';
  }
  if (data.type === ErrorTypes.NETWORK_ERROR) {
    // Parsing errors are of this type too, but loading again would read the same thing.
    const parsing =
      data.details === ErrorDetails.LEVEL_PARSING_ERROR ||
      data.details === ErrorDetails.MANIFEST_PARSING_ERROR;
    return parsing ? 'broken' : 'network';
  }
  if (data.type === ErrorTypes.MEDIA_ERROR) return 'media';
  return 'broken';
}

function hlsConfig(options: HlsSourceOptions): Partial<HlsConfig> {
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
    abrEwmaDefaultEstimate: options.bandwidthBps ?? BANDWIDTH_GUESS_BPS,
    capLevelToPlayerSize: true,
    // The live window is 30 s: the whole of it can be rewound without loading it twice.
    backBufferLength: 30,
    maxBufferLength: 30,
    // A pinned quality stays pinned; when it is gone, playback.ts opens afresh.
    preserveManualLevelOnError: true,
    // A quality that failed may be tried again after this.
    errorPenaltyExpireMs: 10_000,
    enableInterstitialPlayback: false,
    enableID3MetadataCues: false,
    enableEmsgMetadataCues: false,
    enableWebVTT: false,
    enableIMSC1: false,
    enableCEA708Captions: false,
    loader: meteredLoader(options.events),
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

/** The default loader, with its bytes counted where they arrive: parts, segments and init. */
function meteredLoader(events: SourceEvents): HlsConfig['loader'] {
  const Base = Hls.DefaultConfig.loader;
  return class MeteredLoader extends Base {
    override load(
      context: LoaderContext,
      config: LoaderConfiguration,
      callbacks: LoaderCallbacks<LoaderContext>,
    ): void {
      if (!isMedia(context)) {
        super.load(context, config, callbacks);
        return;
      }
      super.load(context, config, {
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
      });
    }
  };
}

/** hls.js's own choice of quality, acted upon between segments only. */
function alignedAbr(mayChange: () => boolean): HlsConfig['abrController'] {
  const Base = Hls.DefaultConfig.abrController;
  return class AlignedAbr extends Base {
    override get nextAutoLevel(): number {
      const wanted = super.nextAutoLevel;
      if (wanted === -1) return wanted;
      const current = this.hls.loadLevel;
      return wanted === current || current === -1 || mayChange() ? wanted : current;
    }

    override set nextAutoLevel(level: number) {
      super.nextAutoLevel = level;
    }
  };
}

function isMedia(context: LoaderContext): context is FragmentLoaderContext {
  return 'frag' in context;
}
