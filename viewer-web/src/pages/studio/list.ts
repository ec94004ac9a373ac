/** All streams of this broadcaster. */
import { h, setText } from '../../ui/dom';
import type { Api, Stream } from './api';
import { stateBadge } from './widgets';

/** Shows the list and keeps it fresh; the result stops that. */
export function showList(
  main: HTMLElement,
  api: Api,
  onTrouble: (cause: unknown) => string | null,
): () => void {
  const rows = h('ul', { class: 'stream-list' });
  const empty = h(
    'div',
    { class: 'empty', hidden: true },
    h('img', { src: '/favicon.svg', alt: '' }),
    h('h2', {}, 'No streams yet'),
    h('p', { class: 'muted' }, 'Create one, point your encoder at it, and share its watch page.'),
    h('a', { class: 'button primary', href: '#new' }, 'Create the first stream'),
  );
  const trouble = h('p', { class: 'note bad', role: 'status', hidden: true });
  const add = h('a', { class: 'button primary', href: '#new' }, 'New stream');
  main.replaceChildren(
    h('div', { class: 'page-head' }, h('h1', {}, 'Streams'), add),
    trouble,
    rows,
    empty,
  );
  let shown = '';

  const renew = async (): Promise<void> => {
    try {
      const streams = await api.streams();
      trouble.hidden = true;
      const key = JSON.stringify(
        streams.map(({ name, title, state, viewers }) => [name, title, state, viewers]),
      );
      if (key === shown) return;
      shown = key;
      empty.hidden = streams.length > 0;
      add.hidden = streams.length === 0;
      rows.replaceChildren(...streams.map(row));
    } catch (cause) {
      const message = onTrouble(cause);
      if (message === null) return;
      setText(trouble, message);
      trouble.hidden = false;
    }
  };
  void renew();
  const timer = setInterval(() => void renew(), 3_000);
  return () => clearInterval(timer);
}

function row(stream: Stream): HTMLElement {
  const viewers = `${stream.viewers} ${stream.viewers === 1 ? 'viewer' : 'viewers'}`;
  return h(
    'li',
    {},
    h(
      'a',
      { class: 'stream-row', href: `#/${stream.name}` },
      h(
        'span',
        { class: 'stream-name' },
        h('strong', {}, stream.title || stream.name),
        h('span', { class: 'muted' }, stream.name),
      ),
      stream.state === 'live' && h('span', { class: 'muted' }, viewers),
      stateBadge(stream.state),
    ),
  );
}
