/** The list of keyboard shortcuts, as a dialog. */
import { h } from '../ui/dom';
import { icon } from '../ui/icons';
import { SHORTCUTS } from './shortcuts';

export function createHelp(): { element: HTMLDialogElement; toggle(): void } {
  const close = h(
    'button',
    { type: 'button', class: 'control close', 'aria-label': 'Close help', autofocus: true },
    icon('close'),
  );
  const element = h(
    'dialog',
    { class: 'help', 'aria-labelledby': 'help-title' },
    h('div', { class: 'stats-head' }, h('h2', { id: 'help-title' }, 'Keyboard'), close),
    h(
      'dl',
      {},
      ...SHORTCUTS.map(({ keys, label }) =>
        h('div', {}, h('dt', {}, ...keys.map((key) => h('kbd', {}, key))), h('dd', {}, label)),
      ),
    ),
  );
  close.addEventListener('click', () => element.close());
  element.addEventListener('click', (event) => {
    if (event.target === element) element.close();
  });
  return {
    element,
    toggle: () => {
      if (element.open) element.close();
      else element.showModal();
    },
  };
}
