/** One stream: how to publish to it, its preview, its health. */
import { createPlayer, type Player } from '../../controls/player';
import { bitrateLabel } from '../../controls/words';
import { h, setText } from '../../ui/dom';
import { icon } from '../../ui/icons';
import type { Api, Ingest, NewKey, QualityChange, Rendition, Stream } from './api';
import { MachinePanel } from './machine';
import { QualityCard } from './quality-card';
import type { LimitsChange } from './resources';
import { ask, copyRow, stateBadge, Tile } from './widgets';

/** From this interval on, passing the source through is not possible. */
const KEYFRAMES_MAX_S = 2.2;

export interface DetailOptions {
  name: string;
  api: Api;
  /** A key made a moment ago: the only time that it can be shown. */
  key: NewKey | null;
  /** Words for a failed call; null when the page is about to change anyway. */
  onTrouble: (cause: unknown) => string | null;
}

/** Shows a stream and keeps it fresh; the result stops that. */
export function showDetail(main: HTMLElement, options: DetailOptions): () => void {
  const detail = new Detail(options);
  main.replaceChildren(detail.element);
  detail.start();
  return () => detail.stop();
}

class Detail {
  readonly element: HTMLElement;
  readonly #options: DetailOptions;
  readonly #title = h('h1');
  readonly #state = h('span', { class: 'state', role: 'status' });
  readonly #trouble = h('p', { class: 'note bad', role: 'alert', hidden: true });
  readonly #startButton = h('button', { type: 'button', class: 'button' }, 'Start');
  readonly #stopButton = h('button', { type: 'button', class: 'button' }, 'Stop');
  readonly #deleteButton = h('button', { type: 'button', class: 'button danger' }, 'Delete');
  readonly #publish = h('section', { class: 'panel publish', 'aria-labelledby': 'publish-title' });
  readonly #preview = h('div', { class: 'preview' });
  readonly #notes = h('ul', { class: 'notes' });
  readonly #bitrate = new Tile('Incoming');
  readonly #keyframes = new Tile('Key frame interval');
  readonly #dropped = new Tile('Dropped frames');
  readonly #viewers = new Tile('Viewers');
  readonly #format = new Tile('Format');
  readonly #qualities = h('ul', { class: 'quality-list' });
  readonly #noQualities = h('p', { class: 'muted' }, 'Qualities show up once the stream is live.');
  readonly #cards = new Map<string, QualityCard>();
  readonly #machine = new MachinePanel((change) => this.#changeLimits(change));
  #player: Player | null = null;
  #key: NewKey | null;
  #drawnPublish = '';
  #timer: ReturnType<typeof setInterval> | null = null;

  constructor(options: DetailOptions) {
    this.#options = options;
    this.#key = options.key;
    this.element = this.#build();
    this.#startButton.addEventListener('click', () => void this.#startStream());
    this.#stopButton.addEventListener('click', () => void this.#stopStream());
    this.#deleteButton.addEventListener('click', () => void this.#deleteStream());
  }

  start(): void {
    void this.#renew();
    this.#timer = setInterval(() => void this.#renew(), 2_000);
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    this.#player?.destroy();
    this.#player = null;
  }

  #build(): HTMLElement {
    const { name } = this.#options;
    const watch = h(
      'a',
      { class: 'button', href: `/watch/${name}`, target: '_blank', rel: 'noopener' },
      'Open watch page',
    );
    return h(
      'div',
      { class: 'detail' },
      h('a', { class: 'back', href: '#' }, icon('back'), 'All streams'),
      h(
        'div',
        { class: 'page-head' },
        h('div', { class: 'title' }, this.#title, this.#state),
        h(
          'div',
          { class: 'actions' },
          watch,
          this.#startButton,
          this.#stopButton,
          this.#deleteButton,
        ),
      ),
      this.#trouble,
      this.#notes,
      h(
        'div',
        { class: 'columns' },
        h(
          'section',
          { 'aria-labelledby': 'preview-title' },
          h('h2', { id: 'preview-title' }, 'Preview'),
          this.#preview,
        ),
        h(
          'section',
          { 'aria-labelledby': 'health-title' },
          h('h2', { id: 'health-title' }, 'Health'),
          h(
            'dl',
            { class: 'tiles' },
            ...[this.#viewers, this.#bitrate, this.#keyframes, this.#dropped, this.#format].map(
              (tile) => tile.element,
            ),
          ),
        ),
      ),
      this.#publish,
      h(
        'section',
        { class: 'panel', 'aria-labelledby': 'renditions-title' },
        h('h2', { id: 'renditions-title' }, 'Qualities'),
        this.#qualities,
        this.#noQualities,
      ),
      this.#machine.element,
    );
  }

  async #renew(): Promise<void> {
    const { api, name } = this.#options;
    try {
      const [stream, resources] = await Promise.all([api.stream(name), api.resources()]);
      if (this.#timer === null) return;
      this.#draw(stream);
      this.#machine.draw(resources, performance.now());
    } catch (cause) {
      this.#complain(cause);
    }
  }

  #draw(stream: Stream): void {
    this.#trouble.hidden = true;
    setText(this.#title, stream.title || stream.name);
    document.title = `${stream.title || stream.name} · Studio`;
    const badge = stateBadge(stream.state);
    if (this.#state.textContent !== badge.textContent) this.#state.replaceChildren(badge);
    const running =
      stream.state === 'live' || stream.state === 'grace' || stream.state === 'waiting';
    this.#startButton.hidden = running;
    this.#stopButton.hidden = !running;
    this.#drawNotes(stream.notes);
    this.#drawPreview(stream);
    this.#drawHealth(stream);
    this.#drawPublish(stream);
    this.#drawRenditions(stream.renditions);
  }

  #drawNotes(notes: readonly string[]): void {
    this.#notes.hidden = notes.length === 0;
    if (this.#notes.textContent === notes.join('')) return;
    this.#notes.replaceChildren(...notes.map((note) => h('li', { class: 'note warn' }, note)));
  }

  #drawPreview({ name, state, reason }: Stream): void {
    const shows = state === 'live' || state === 'grace';
    if (shows && !this.#player) {
      this.#player = createPlayer({
        stream: name,
        src: `/live/${name}/master.m3u8`,
        poster: `/live/${name}/thumb.jpg`,
        muted: true,
        shortcuts: false,
      });
      this.#preview.replaceChildren(this.#player.element);
    } else if (!shows) {
      this.#player?.destroy();
      this.#player = null;
      const words = {
        waiting: 'No picture yet. It shows up here as soon as the encoder sends.',
        ended: 'The broadcast has ended.',
        failed: `The stream failed${reason ? `: ${reason}` : ''}. Start it again when that is solved.`,
      }[state];
      if (this.#preview.textContent !== words) {
        this.#preview.replaceChildren(h('p', { class: 'preview-empty' }, words));
      }
    }
  }

  #drawHealth({ ingest, viewers, state }: Stream): void {
    this.#viewers.draw(String(viewers));
    if (!ingest || state !== 'live') {
      for (const tile of [this.#bitrate, this.#keyframes, this.#dropped, this.#format])
        tile.draw('–');
      return;
    }
    this.#bitrate.draw(bitrateLabel(ingest.bitrateBps ?? 0) || '–');
    this.#drawKeyframes(ingest);
    const dropped = ingest.framesDropped;
    this.#dropped.draw(
      dropped === null ? '–' : String(dropped),
      '',
      (dropped ?? 0) > 0 ? 'warn' : '',
    );
    const size = ingest.width > 0 ? `${ingest.width} × ${ingest.height}` : '–';
    const fps = ingest.fps > 0 ? `${Number(ingest.fps.toFixed(2))} fps` : '';
    const bFrames = ingest.bFrames === true ? 'B-frames' : '';
    this.#format.draw(size, [fps, ingest.codec, bFrames].filter(Boolean).join(' · '));
  }

  #drawKeyframes({ keyframeIntervalS }: Ingest): void {
    if (keyframeIntervalS === null || keyframeIntervalS === 0) {
      this.#keyframes.draw('–');
      return;
    }
    const long = keyframeIntervalS > KEYFRAMES_MAX_S;
    const hint = long
      ? 'Set it to 2 s in the encoder, so that the source can be passed through.'
      : '';
    this.#keyframes.draw(`${keyframeIntervalS.toFixed(1)} s`, hint, long ? 'warn' : '');
  }

  #drawPublish(stream: Stream): void {
    const isRtmp = stream.source === 'rtmp' || stream.source === '';
    this.#publish.hidden = !isRtmp;
    const url = this.#key?.ingestUrl ?? stream.ingestUrl ?? `rtmp://${location.hostname}:1935/live`;
    const key = this.#key?.streamKey ?? null;
    const drawn = JSON.stringify([url, key]);
    if (!isRtmp || drawn === this.#drawnPublish) return;
    this.#drawnPublish = drawn;
    const renew = h('button', { type: 'button', class: 'button' }, 'Make a new key');
    renew.addEventListener('click', () => void this.#makeKey());
    this.#publish.replaceChildren(
      h('h2', { id: 'publish-title' }, 'Publish'),
      h(
        'p',
        { class: 'muted' },
        'In OBS: Settings → Stream → Service “Custom…”. Set the key frame interval to 2 s.',
      ),
      copyRow('Server', url, false),
      ...(key === null
        ? [
            h(
              'div',
              { class: 'copy-row' },
              h('span', { class: 'field-label' }, 'Stream key'),
              h(
                'p',
                { class: 'muted' },
                'Shown only when it is made. Lost it? A new one replaces it.',
              ),
              renew,
            ),
          ]
        : [
            copyRow('Stream key', key, true),
            h(
              'p',
              { class: 'note warn' },
              'Copy the key now: it is not shown again. Whoever has it can publish to this stream.',
            ),
          ]),
    );
  }

  #drawRenditions(renditions: readonly Rendition[]): void {
    this.#noQualities.hidden = renditions.length > 0;
    const ids = renditions.map(({ id }) => id);
    if (ids.join() !== [...this.#cards.keys()].join()) {
      this.#cards.clear();
      for (const rendition of renditions) {
        const { id } = rendition;
        const card = new QualityCard(rendition, (change) => this.#changeQuality(id, change));
        this.#cards.set(id, card);
      }
      this.#qualities.replaceChildren(...[...this.#cards.values()].map(({ element }) => element));
    }
    for (const rendition of renditions) this.#cards.get(rendition.id)?.draw(rendition);
  }

  async #changeQuality(id: string, change: QualityChange): Promise<void> {
    if (await this.#act((api, name) => api.changeQuality(name, id, change))) await this.#renew();
  }

  async #changeLimits(change: LimitsChange): Promise<void> {
    const changed = await this.#act(async (api) => {
      await api.changeLimits(change);
    });
    if (changed) await this.#renew();
  }

  async #makeKey(): Promise<void> {
    const { api, name } = this.#options;
    const sure = await ask(
      'Make a new stream key?',
      'The old key stops working at once; an encoder that uses it will be refused.',
      'Make a new key',
    );
    if (!sure) return;
    try {
      this.#key = await api.newKey(name);
      await this.#renew();
    } catch (cause) {
      this.#complain(cause);
    }
  }

  async #startStream(): Promise<void> {
    if (await this.#act((api, name) => api.start(name))) await this.#renew();
  }

  async #stopStream(): Promise<void> {
    const sure = await ask(
      'Stop the stream?',
      'Its broadcast ends for everyone who is watching.',
      'Stop the stream',
    );
    if (sure && (await this.#act((api, name) => api.stop(name)))) await this.#renew();
  }

  async #deleteStream(): Promise<void> {
    const { name } = this.#options;
    const sure = await ask(
      `Delete “${name}”?`,
      'The broadcast ends, the key stops working, and the stream is gone. This cannot be undone.',
      'Delete the stream',
    );
    if (!sure) return;
    if (!(await this.#act((api) => api.delete(name)))) return;
    this.stop();
    location.hash = '';
  }

  /** Makes a call with the buttons locked; whether it went well. */
  async #act(run: (api: Api, name: string) => Promise<void>): Promise<boolean> {
    const { api, name } = this.#options;
    this.#trouble.hidden = true;
    const buttons = [this.#startButton, this.#stopButton, this.#deleteButton];
    for (const button of buttons) button.disabled = true;
    try {
      await run(api, name);
    } catch (cause) {
      this.#complain(cause);
      return false;
    } finally {
      for (const button of buttons) button.disabled = false;
    }
    return true;
  }

  #complain(cause: unknown): void {
    const message = this.#options.onTrouble(cause);
    if (message === null || this.#timer === null) return;
    setText(this.#trouble, message);
    this.#trouble.hidden = false;
  }
}
