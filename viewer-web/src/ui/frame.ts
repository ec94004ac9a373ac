/** What stands around every full page: header with the way between the pages. */
import './theme.css';
import { h } from './dom';

export type Place = 'home' | 'watch' | 'studio';

/** Replaces the page's content with a header and `main`; returns `main`. */
export function buildFrame(root: HTMLElement, place: Place, ...extra: Node[]): HTMLElement {
  const link = (href: string, label: string, at: Place): HTMLElement =>
    h('a', { href, 'aria-current': at === place ? 'page' : null }, label);
  const main = h('main', { id: 'main' });
  root.replaceChildren(
    h(
      'header',
      { class: 'site-header' },
      h('a', { class: 'brand', href: '/' }, h('img', { src: '/favicon.svg', alt: '' }), 'Shoal'),
      h(
        'nav',
        { 'aria-label': 'Pages' },
        link('/', 'Live', 'home'),
        link('/studio', 'Studio', 'studio'),
        ...extra,
      ),
    ),
    main,
  );
  return main;
}
