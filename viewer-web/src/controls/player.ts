/** The player with its controls: builds the elements, keeps them in step with a `Viewer`. */
import './player.css';
import { h, setText } from '../ui/dom';
import { icon, setIcon, type IconName } from '../ui/icons';
import type { Quality } from '../player/source';
import type { Viewer, ViewerOptions, ViewerState } from '../player/api';
import { createViewer } from '../player/viewer';
import { createHelp } from './help';
import { createMenu, type Menu } from './menu';
import { listenForShortcuts, type Action } from './shortcuts';
import { createStatsPanel, type StatsPanel } from './stats-panel';
import { bitrateLabel, messageFor, qualityLabel, qualityNotice, type Message } from './words';

export interface PlayerOptions extends ViewerOptions {
  /** The stream's name, for messages. */
  stream: string | null;
  /** Starts without sound, whatever was chosen last. */
  muted?: boolean;
  /** Whether keys pressed anywhere in the page work the player. */
  shortcuts?: boolean;
}

export interface Player {
  readonly element: HTMLElement;
  readonly viewer: Viewer;
  destroy(): void;
}

/** The controls hide after this long without a pointer or a key. */
const IDLE_MS = 3_000;
/** A stall or a start shorter than this shows nothing. */
const SPINNER_AFTER_MS = 400;
/** How long a passing note stays. */
const TOAST_MS = 6_000;
const VOLUME_KEY = 'shoal.volume';

export function createPlayer(options: PlayerOptions): Player {
  return new ControlledPlayer(options);
}

class ControlledPlayer implements Player {
  readonly element: HTMLElement;
  readonly viewer: Viewer;
  readonly #options: PlayerOptions;
  readonly #video = h('video', { playsinline: true, tabindex: -1, 'aria-label': 'Live video' });
  readonly #stop = new AbortController();
  readonly #playButton = control('play', 'Play');
  readonly #muteButton = control('volume', 'Mute');
  readonly #volume = h('input', {
    type: 'range',
    class: 'volume',
    min: 0,
    max: 1,
    step: 0.05,
    'aria-label': 'Volume',
  });
  readonly #seek = h('input', {
    type: 'range',
    class: 'seek',
    step: 0.1,
    'aria-label': 'Position',
  });
  readonly #live = h('button', { type: 'button', class: 'live-badge' });
  readonly #latency = h('span', { class: 'latency', title: 'Camera to screen' });
  readonly #statsButton = control('stats', 'Statistics');
  readonly #pipButton = control('pip', 'Picture in picture');
  readonly #helpButton = control('help', 'Keyboard help');
  readonly #fullButton = control('fullscreen', 'Full screen');
  readonly #unmute = h('button', { type: 'button', class: 'unmute', hidden: true });
  readonly #spinner = h('div', { class: 'spinner', hidden: true, 'aria-hidden': 'true' });
  readonly #card = h('div', { class: 'card', hidden: true });
  /** Heard through the announcer. */
  readonly #toast = h('p', { class: 'toast', hidden: true, 'aria-hidden': 'true' });
  readonly #announcer = h('div', {
    class: 'visually-hidden',
    role: 'status',
    'aria-live': 'polite',
  });
  readonly #quality: Menu;
  readonly #panel: StatsPanel;
  readonly #help = createHelp();
  readonly #controls: HTMLElement;
  #idleTimer: ReturnType<typeof setTimeout> | null = null;
  #spinnerTimer: ReturnType<typeof setTimeout> | null = null;
  #seeking = false;
  #toastTimer: ReturnType<typeof setTimeout> | null = null;
  #shownMessage = '';
  #shownQualities: readonly Quality[] = [];

  constructor(options: PlayerOptions) {
    this.#options = options;
    restoreVolume(this.#video, options.muted === true);
    this.viewer = createViewer(this.#video, options);
    this.#panel = createStatsPanel(this.viewer, () => {
      this.#statsButton.setAttribute('aria-pressed', String(this.#panel.isOpen));
    });
    this.#quality = createMenu('Quality', 'quality', (id) => {
      this.viewer.setQuality(id === 'auto' ? null : id);
    });
    this.#unmute.append(icon('muted'), 'Turn sound on');
    this.#statsButton.setAttribute('aria-pressed', 'false');
    this.#controls = h(
      'div',
      { class: 'controls', role: 'group', 'aria-label': 'Player controls' },
      this.#seek,
      h(
        'div',
        { class: 'row' },
        this.#playButton,
        h('div', { class: 'sound' }, this.#muteButton, this.#volume),
        this.#live,
        this.#latency,
        h('span', { class: 'spacer' }),
        this.#quality.element,
        this.#statsButton,
        this.#helpButton,
        this.#pipButton,
        this.#fullButton,
      ),
    );
    this.element = h(
      'div',
      { class: 'player', 'data-phase': 'loading' },
      this.#video,
      this.#spinner,
      this.#card,
      this.#announcer,
      this.#toast,
      this.#unmute,
      this.#controls,
      this.#panel.element,
      this.#help.element,
    );
    this.#hideWhatIsMissing();
    this.#listen();
    this.#drawState(this.viewer.state);
    this.#drawSound();
    this.#wake();
  }

  destroy(): void {
    this.#stop.abort();
    if (this.#idleTimer !== null) clearTimeout(this.#idleTimer);
    if (this.#spinnerTimer !== null) clearTimeout(this.#spinnerTimer);
    if (this.#toastTimer !== null) clearTimeout(this.#toastTimer);
    this.viewer.destroy();
    this.element.remove();
  }

  #listen(): void {
    const { signal } = this.#stop;
    const on = (target: EventTarget, name: string, listener: (event: Event) => void): void =>
      target.addEventListener(name, listener, { signal });
    on(this.#playButton, 'click', () => this.#run('toggle-play'));
    on(this.#muteButton, 'click', () => this.#run('toggle-mute'));
    on(this.#unmute, 'click', () => this.#setMuted(false));
    on(this.#live, 'click', () => this.#run('go-live'));
    on(this.#statsButton, 'click', () => this.#run('toggle-stats'));
    on(this.#helpButton, 'click', () => this.#run('toggle-help'));
    on(this.#pipButton, 'click', () => this.#run('toggle-pip'));
    on(this.#fullButton, 'click', () => this.#run('toggle-fullscreen'));
    on(this.#volume, 'input', () => this.#setVolume(Number(this.#volume.value)));
    on(this.#seek, 'input', () => {
      this.#seeking = true;
      this.#drawSeekText();
    });
    on(this.#seek, 'change', () => {
      this.#seeking = false;
      this.viewer.seekTo(Number(this.#seek.value));
    });
    on(this.#video, 'click', () => this.#handleTap());
    on(this.#video, 'dblclick', () => this.#run('toggle-fullscreen'));
    on(this.#video, 'volumechange', () => this.#drawSound());
    on(this.#video, 'timeupdate', () => this.#drawPosition());
    on(this.#video, 'play', () => this.#drawPlay());
    on(this.#video, 'pause', () => this.#drawPlay());
    on(document, 'fullscreenchange', () => this.#drawFullscreen());
    for (const name of ['pointermove', 'pointerdown', 'keydown', 'focusin']) {
      on(this.element, name, () => this.#wake());
    }
    on(this.element, 'pointerleave', () => this.#rest(600));
    this.viewer.on('state', (state) => this.#drawState(state));
    this.viewer.on('qualities', (qualities) => this.#handleQualities(qualities));
    this.viewer.on('stats', () => this.#drawPosition());
    if (this.#options.shortcuts !== false) {
      listenForShortcuts((action) => {
        this.#wake();
        this.#run(action);
      }, signal);
    }
  }

  #run(action: Action): void {
    const video = this.#video;
    switch (action) {
      case 'toggle-play':
        if (this.viewer.state.phase === 'ended') this.viewer.replay();
        else if (video.paused) this.viewer.play();
        else this.viewer.pause();
        return;
      case 'toggle-mute':
        this.#setMuted(!video.muted);
        return;
      case 'louder':
        this.#setVolume(video.volume + 0.1);
        return;
      case 'quieter':
        this.#setVolume(video.volume - 0.1);
        return;
      case 'back':
        this.viewer.seekBy(-5);
        return;
      case 'forward':
        this.viewer.seekBy(5);
        return;
      case 'go-live':
        this.viewer.goLive();
        return;
      case 'toggle-stats':
        this.#panel.toggle();
        return;
      case 'toggle-help':
        this.#help.toggle();
        return;
      case 'toggle-pip':
        void this.#togglePip();
        return;
      case 'toggle-fullscreen':
        void this.#toggleFullscreen();
    }
  }

  /** A mouse click plays and pauses; a first touch only brings the controls. */
  #handleTap(): void {
    const touch = matchMedia('(pointer: coarse)').matches;
    if (touch && this.element.hasAttribute('data-idle')) this.#wake();
    else if (!touch) this.#run('toggle-play');
  }

  #setMuted(muted: boolean): void {
    this.#video.muted = muted;
    if (!muted && this.#video.volume === 0) this.#video.volume = 0.5;
    if (!muted && this.#video.paused && this.viewer.state.phase === 'playing') this.viewer.play();
  }

  #setVolume(volume: number): void {
    this.#video.volume = Math.min(1, Math.max(0, volume));
    this.#video.muted = this.#video.volume === 0;
  }

  async #togglePip(): Promise<void> {
    try {
      if (document.pictureInPictureElement === this.#video) await document.exitPictureInPicture();
      else await this.#video.requestPictureInPicture();
    } catch {
      this.#announce('Picture in picture is not available right now');
    }
  }

  async #toggleFullscreen(): Promise<void> {
    // iPhones let only the video element itself fill the screen.
    const video = this.#video as HTMLVideoElement & { webkitEnterFullscreen?: () => void };
    try {
      if (document.fullscreenElement) await document.exitFullscreen();
      else if (document.fullscreenEnabled) await this.element.requestFullscreen();
      else video.webkitEnterFullscreen?.();
    } catch {
      this.#announce('Full screen is not available here');
    }
  }

  #hideWhatIsMissing(): void {
    const video = this.#video as HTMLVideoElement & { webkitEnterFullscreen?: () => void };
    this.#pipButton.hidden = !document.pictureInPictureEnabled;
    this.#fullButton.hidden = !document.fullscreenEnabled && !video.webkitEnterFullscreen;
    this.#helpButton.hidden = this.#options.shortcuts === false;
  }

  #drawState(state: ViewerState): void {
    this.element.dataset.phase = state.phase;
    const message = messageFor(state, this.#options.stream);
    const calm = state.phase === 'loading' || (message === null && state.stalled);
    this.#drawSpinner(calm);
    this.#drawCard(state.phase === 'loading' ? null : message);
    this.#unmute.hidden = !state.silenced || state.phase !== 'playing';
    this.#drawLive(state);
    this.#drawPlay();
    this.#drawQualities();
    this.#drawPosition();
  }

  #drawSpinner(wanted: boolean): void {
    if (!wanted) {
      if (this.#spinnerTimer !== null) clearTimeout(this.#spinnerTimer);
      this.#spinnerTimer = null;
      this.#spinner.hidden = true;
    } else {
      this.#spinnerTimer ??= setTimeout(() => {
        this.#spinner.hidden = false;
        this.#announce(this.viewer.state.phase === 'loading' ? 'Loading' : 'Buffering');
      }, SPINNER_AFTER_MS);
    }
  }

  #drawCard(message: Message | null): void {
    const key = JSON.stringify(message);
    if (key === this.#shownMessage) return;
    this.#shownMessage = key;
    this.#card.hidden = message === null;
    if (message === null) {
      this.#card.replaceChildren();
      this.#announce('');
      return;
    }
    this.#announce(`${message.title}. ${message.detail}`);
    this.#card.replaceChildren(
      ...(message.busy ? [h('div', { class: 'pulse', 'aria-hidden': 'true' })] : []),
      h('p', { class: 'card-title' }, message.title),
      ...(message.detail ? [h('p', { class: 'card-detail' }, message.detail)] : []),
      ...this.#cardAction(message),
    );
  }

  #cardAction(message: Message): Node[] {
    const button = (label: string, image: IconName, run: () => void): Node[] => {
      const element = h('button', { type: 'button', class: 'button primary' }, icon(image), label);
      element.addEventListener('click', run);
      return [element];
    };
    switch (message.action) {
      case 'replay':
        return button('Watch what is left', 'replay', () => this.viewer.replay());
      case 'try-again':
        return button('Try again now', 'replay', () => this.viewer.tryAgain());
      case 'all-streams':
        return [h('a', { class: 'button primary', href: '/', target: '_top' }, 'All live streams')];
      case null:
        return [];
    }
  }

  #drawLive(state: ViewerState): void {
    const can = state.phase === 'playing' || state.phase === 'reconnecting';
    this.#live.hidden = !can || state.stream === 'ended';
    this.#live.dataset.live = String(state.atLive);
    setText(this.#live, state.atLive ? 'Live' : 'Go to live');
    this.#live.title = state.atLive ? 'You are watching live' : 'Jump to the live edge';
  }

  #drawPlay(): void {
    const { paused } = this.#video;
    const ended = this.viewer.state.phase === 'ended';
    setIcon(this.#playButton, ended ? 'replay' : paused ? 'play' : 'pause');
    name(this.#playButton, ended ? 'Watch what is left' : paused ? 'Play' : 'Pause');
    const idle = ['waiting', 'missing', 'failed'].includes(this.viewer.state.phase);
    this.#playButton.disabled = idle || (ended && !this.viewer.state.replayable);
    if (paused) this.#wake();
  }

  #drawSound(): void {
    const { muted, volume } = this.#video;
    const silent = muted || volume === 0;
    setIcon(this.#muteButton, silent ? 'muted' : 'volume');
    name(this.#muteButton, silent ? 'Turn sound on' : 'Mute');
    this.#volume.value = String(silent ? 0 : volume);
    this.#volume.ariaValueText = `${Math.round((silent ? 0 : volume) * 100)} %`;
    this.#volume.style.setProperty('--fill', `${(silent ? 0 : volume) * 100}%`);
    if (!this.viewer.state.silenced && this.#options.muted !== true) rememberVolume(this.#video);
  }

  #handleQualities(qualities: readonly Quality[]): void {
    const notice = qualityNotice(this.#shownQualities, qualities, this.viewer.pinnedQuality);
    // While the source is opened afresh there is nothing to choose from, which is no news.
    if (qualities.length > 0) this.#shownQualities = qualities;
    this.#drawQualities();
    if (notice === null || qualities.length === 0) return;
    this.#announce(notice.text);
    // Who left the choice to the player sees that the picture goes on; more would only disturb.
    if (notice.concerns === 'picked') this.#showToast(notice.text);
  }

  #showToast(text: string): void {
    setText(this.#toast, text);
    this.#toast.hidden = false;
    if (this.#toastTimer !== null) clearTimeout(this.#toastTimer);
    this.#toastTimer = setTimeout(() => {
      this.#toast.hidden = true;
    }, TOAST_MS);
  }

  #drawQualities(): void {
    const { qualities, pinnedQuality } = this.viewer;
    const shown = this.viewer.stats().quality;
    this.#quality.update(
      [
        { id: 'auto', label: 'Auto', detail: pinnedQuality === null ? (shown ?? '') : '' },
        ...qualities.map((quality) => ({
          id: quality.id,
          label: qualityLabel(quality),
          detail: quality.paused ? 'paused' : bitrateLabel(quality.bitrate),
          disabled: quality.paused,
        })),
      ],
      pinnedQuality ?? 'auto',
      shown ?? '',
    );
  }

  #drawPosition(): void {
    const { seekable, currentTime } = this.#video;
    const has = seekable.length > 0 && this.viewer.state.phase !== 'missing';
    this.#seek.disabled = !has;
    if (has && !this.#seeking) {
      const start = seekable.start(0);
      const end = Math.max(seekable.end(seekable.length - 1), currentTime);
      this.#seek.min = String(start);
      this.#seek.max = String(end);
      const atLive = this.viewer.state.atLive;
      this.#seek.value = String(atLive ? end : currentTime);
    }
    this.#drawSeekText();
    const { latencyS } = this.viewer.stats();
    const shows = latencyS !== null && this.viewer.state.phase === 'playing';
    setText(this.#latency, shows ? `${latencyS.toFixed(1)} s` : '');
  }

  #drawSeekText(): void {
    const { min, max, value } = this.#seek;
    const behind = Number(max) - Number(value);
    const span = Number(max) - Number(min);
    this.#seek.ariaValueText = behind < 1 ? 'live' : `${Math.round(behind)} seconds behind live`;
    this.#seek.style.setProperty('--fill', `${span > 0 ? 100 * (1 - behind / span) : 100}%`);
  }

  #drawFullscreen(): void {
    const full = document.fullscreenElement === this.element;
    setIcon(this.#fullButton, full ? 'windowed' : 'fullscreen');
    name(this.#fullButton, full ? 'Leave full screen' : 'Full screen');
  }

  #announce(text: string): void {
    setText(this.#announcer, text);
  }

  #wake(): void {
    this.element.removeAttribute('data-idle');
    this.#rest(IDLE_MS);
  }

  /** Hides the controls later, unless they are in use then. */
  #rest(afterMs: number): void {
    if (this.#idleTimer !== null) clearTimeout(this.#idleTimer);
    this.#idleTimer = setTimeout(() => {
      const used = this.#controls.querySelector(':focus-visible, [aria-expanded="true"]') !== null;
      const playing = !this.#video.paused && this.viewer.state.phase === 'playing';
      if (playing && !used && !this.#seeking) this.element.setAttribute('data-idle', '');
      else this.#rest(IDLE_MS);
    }, afterMs);
  }
}

function control(image: IconName, label: string): HTMLButtonElement {
  const button = h('button', { type: 'button', class: 'control' });
  setIcon(button, image);
  name(button, label);
  return button;
}

function name(button: HTMLButtonElement, label: string): void {
  button.setAttribute('aria-label', label);
  button.title = label;
}

function restoreVolume(video: HTMLVideoElement, muted: boolean): void {
  video.muted = muted;
  try {
    const stored: unknown = JSON.parse(localStorage.getItem(VOLUME_KEY) ?? 'null');
    if (typeof stored !== 'number' || !(stored >= 0 && stored <= 1)) return;
    video.volume = stored;
    if (stored === 0) video.muted = true;
  } catch {
    // Without storage the volume starts at full.
  }
}

function rememberVolume(video: HTMLVideoElement): void {
  try {
    localStorage.setItem(VOLUME_KEY, JSON.stringify(video.muted ? 0 : video.volume));
  } catch {
    // See restoreVolume.
  }
}
