/** Icons on a 24 × 24 grid, drawn for this player. */
import { svg } from './dom';

const PATHS = {
  play: 'M8 5.2v13.6L19 12z',
  pause: 'M7 5h3.4v14H7zM13.6 5H17v14h-3.4z',
  replay: 'M12 5V2L7.5 6 12 10V7a5 5 0 1 1-5 5H5a7 7 0 1 0 7-7z',
  volume:
    'M4 9.5v5h3.2L11.5 18V6L7.2 9.5zM14 8.6a4.6 4.6 0 0 1 0 6.8l1.1 1.3a6.3 6.3 0 0 0 0-9.4zM16.6 5.6a8.6 8.6 0 0 1 0 12.8l1.1 1.3a10.3 10.3 0 0 0 0-15.4z',
  muted:
    'M4 9.5v5h3.2L11.5 18V6L7.2 9.5zM14.2 9.5l1.2-1.2 2.3 2.3 2.3-2.3 1.2 1.2-2.3 2.4 2.3 2.4-1.2 1.2-2.3-2.3-2.3 2.3-1.2-1.2 2.3-2.4z',
  quality:
    'M4 7h8.3a2.6 2.6 0 0 0 5 0H20v-1.6h-2.7a2.6 2.6 0 0 0-5 0H4zM4 12.8h2.7a2.6 2.6 0 0 0 5 0H20v-1.6h-8.3a2.6 2.6 0 0 0-5 0H4zM4 18.6h8.3a2.6 2.6 0 0 0 5 0H20V17h-2.7a2.6 2.6 0 0 0-5 0H4z',
  stats: 'M4 20V4h1.7v14.3H20V20zM7.5 16.5v-5h2.2v5zM11.6 16.5v-9h2.2v9zM15.7 16.5v-6.5h2.2v6.5z',
  pip: 'M3 5.5h18v13H3zm1.7 1.7v9.6h14.6V7.2zM11.5 11.5h6.3v4h-6.3z',
  fullscreen:
    'M4 4h6v1.8H5.8V10H4zM14 4h6v6h-1.8V5.8H14zM4 14h1.8v4.2H10V20H4zM18.2 14H20v6h-6v-1.8h4.2z',
  windowed:
    'M8.2 4H10v6H4V8.2h4.2zM14 4h1.8v4.2H20V10h-6zM4 14h6v6H8.2v-4.2H4zM14 14h6v1.8h-4.2V20H14z',
  help: 'M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zm0 1.7a7.3 7.3 0 1 1 0 14.6 7.3 7.3 0 0 1 0-14.6zm-.9 10.6h1.8v1.8h-1.8zM12 7.2a3 3 0 0 0-3 3h1.7a1.3 1.3 0 1 1 2.1 1c-1 .8-1.7 1.4-1.7 2.8h1.7c0-.7.4-1.1 1.1-1.6A3 3 0 0 0 12 7.2z',
  close:
    'M6.3 5 12 10.7 17.7 5 19 6.3 13.3 12l5.7 5.7-1.3 1.3-5.7-5.7L6.3 19 5 17.7l5.7-5.7L5 6.3z',
  check: 'M9.6 17.2 4.8 12.4l1.3-1.3 3.5 3.5 8.3-8.3 1.3 1.3z',
  copy: 'M8 3h12v14h-3.5v4H4V7h4zm1.7 4h6.8v8.3h1.8V4.7H9.7zM5.7 8.7v10.6h9.1V8.7z',
  back: 'M14.6 5.2 16 6.6 10.5 12l5.5 5.4-1.4 1.4L7.7 12z',
} as const;

export type IconName = keyof typeof PATHS;

/** An icon; the button around it carries the name. */
export function icon(name: IconName): SVGSVGElement {
  return svg(
    'svg',
    { viewBox: '0 0 24 24', class: 'icon', 'aria-hidden': 'true', focusable: 'false' },
    svg('path', { d: PATHS[name], 'fill-rule': 'evenodd' }),
  );
}

/** Replaces the icon inside a button, if it is another one. */
export function setIcon(button: Element, name: IconName): void {
  if (button.getAttribute('data-icon') === name) return;
  button.setAttribute('data-icon', name);
  const old = button.querySelector('.icon');
  if (old) old.replaceWith(icon(name));
  else button.prepend(icon(name));
}
