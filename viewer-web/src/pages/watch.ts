/** `/watch/{stream}`: the player, and what the stream is. */
import './watch.css';
import { agoLabel } from '../controls/words';
import type { ViewerState } from '../player/api';
import { h, required, setText } from '../ui/dom';
import { buildFrame } from '../ui/frame';
import { openStream } from './stream-page';

const main = buildFrame(required('#app', HTMLElement), 'watch');
const { stream, player } = openStream();
const { viewer } = player;

const title = h('h1', {}, stream ?? 'Unknown stream');
const badge = h('span', { class: 'badge' });
const since = h('span');
const copy = h('button', { type: 'button', class: 'button' }, 'Copy link');
const meta = h('div', { class: 'watch-meta' }, badge, since);
main.append(
  h(
    'div',
    { class: 'watch' },
    player.element,
    h('div', { class: 'watch-info' }, title, copy, meta),
  ),
);

viewer.on('info', draw);
viewer.on('state', draw);
setInterval(draw, 30_000);
copy.addEventListener('click', () => void copyLink());
draw();

function draw(): void {
  const { info, state } = viewer;
  const name = info?.title || stream || 'Unknown stream';
  setText(title, name);
  document.title = `${name} · Shoal`;
  copy.hidden = !isSecureContext || state.phase === 'missing';
  const status = statusOf(state);
  badge.hidden = status === null;
  badge.className = `badge ${status?.tone ?? ''}`;
  setText(badge, status?.label ?? '');
  const startedMs = Date.parse(info?.startedAt ?? '');
  const running = ['live', 'grace', 'restarting'].includes(info?.state ?? '');
  setText(since, running && startedMs > 0 ? `Started ${agoLabel(startedMs, Date.now())}` : '');
  meta.hidden = badge.hidden && since.textContent === '';
}

function statusOf({ phase, stream: word }: ViewerState): { label: string; tone: string } | null {
  if (phase === 'missing' || phase === 'loading') return null;
  if (phase === 'ended') return { label: 'Ended', tone: '' };
  if (phase === 'failed') return { label: 'Stopped', tone: 'bad' };
  if (phase === 'waiting') return { label: 'Not live yet', tone: '' };
  if (phase === 'reconnecting' || word === 'grace' || word === 'restarting')
    return { label: 'Interrupted', tone: 'warn' };
  return { label: 'Live', tone: 'live' };
}

async function copyLink(): Promise<void> {
  await navigator.clipboard.writeText(`${location.origin}/watch/${stream ?? ''}`);
  setText(copy, 'Copied');
  setTimeout(() => setText(copy, 'Copy link'), 2_000);
}
