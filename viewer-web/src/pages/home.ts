/** `/`: the streams that are live. */
import './home.css';
import { agoLabel } from '../controls/words';
import { h, required, setText } from '../ui/dom';
import { buildFrame } from '../ui/frame';
import { parseStreams, type ListedStream } from './streams';

/** How often the list and its pictures are renewed; thumbnails change every 10 s. */
const RENEW_MS = 10_000;

const main = buildFrame(required('#app', HTMLElement), 'home');
const heading = h('h1', {}, 'Live now');
const list = h('ul', { class: 'cards' });
const empty = h(
  'div',
  { class: 'empty' },
  h('img', { src: '/favicon.svg', alt: '' }),
  h('h2', {}, 'Nobody is live right now'),
  h('p', { class: 'muted' }, 'Streams show up here by themselves as soon as they start.'),
  h('a', { class: 'button', href: '/studio' }, 'Start one in the studio'),
);
const trouble = h('p', { class: 'note warn', role: 'status', hidden: true });
main.append(heading, trouble, list, empty);
list.hidden = true;
empty.hidden = true;

const cards = new Map<string, Card>();
void renew();
setInterval(() => {
  if (document.visibilityState === 'visible') void renew();
}, RENEW_MS);
document.addEventListener('visibilitychange', () => {
  if (document.visibilityState === 'visible') void renew();
});

async function renew(): Promise<void> {
  try {
    const response = await fetch('/streams.json', { cache: 'no-store' });
    if (!response.ok) throw new Error(`status ${response.status}`);
    draw(parseStreams(await response.json()));
    trouble.hidden = true;
  } catch {
    setText(trouble, 'The server does not answer at the moment. This page keeps trying.');
    trouble.hidden = false;
  }
}

function draw(streams: readonly ListedStream[]): void {
  list.hidden = streams.length === 0;
  empty.hidden = streams.length > 0;
  for (const [name, card] of cards) {
    if (streams.some((stream) => stream.name === name)) continue;
    card.element.remove();
    cards.delete(name);
  }
  for (const stream of streams) {
    const card = cards.get(stream.name) ?? new Card(stream.name);
    cards.set(stream.name, card);
    card.draw(stream);
    if (!card.element.isConnected) list.append(card.element);
  }
}

class Card {
  readonly element: HTMLElement;
  readonly #image = h('img', { alt: '', loading: 'lazy', decoding: 'async', hidden: true });
  readonly #badge = h('span', { class: 'badge' });
  readonly #title = h('h2');
  readonly #detail = h('p', { class: 'muted' });
  readonly #name: string;

  constructor(name: string) {
    this.#name = name;
    this.element = h(
      'li',
      {},
      h(
        'a',
        { class: 'stream-card', href: `/watch/${encodeURIComponent(name)}` },
        h('div', { class: 'thumb' }, this.#image, this.#badge),
        h('div', { class: 'text' }, this.#title, this.#detail),
      ),
    );
  }

  draw(stream: ListedStream): void {
    setText(this.#title, stream.title || stream.name);
    const live = stream.state === 'live';
    setText(this.#badge, live ? 'Live' : 'Interrupted');
    this.#badge.className = `badge ${live ? 'live' : 'warn'}`;
    const viewers = `${stream.viewers} ${stream.viewers === 1 ? 'viewer' : 'viewers'}`;
    const startedMs = Date.parse(stream.startedAt ?? '');
    const since = startedMs > 0 ? `started ${agoLabel(startedMs, Date.now())}` : '';
    setText(this.#detail, [viewers, since].filter(Boolean).join(' · '));
    this.#renewImage();
  }

  /** Loads aside and swaps, so that a card never flashes empty. */
  #renewImage(): void {
    const next = new Image();
    next.onload = () => {
      this.#image.src = next.src;
      this.#image.hidden = false;
    };
    next.src = `/live/${encodeURIComponent(this.#name)}/thumb.jpg?t=${Math.floor(Date.now() / RENEW_MS)}`;
  }
}
