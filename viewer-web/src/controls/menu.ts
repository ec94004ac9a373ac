/** A button that opens a menu of choices, one of them chosen; keyboard as in the ARIA practices. */
import { h, setText } from '../ui/dom';
import { icon, type IconName } from '../ui/icons';

export interface Choice {
  id: string;
  label: string;
  detail: string;
  /** Shown, but not to be picked now. */
  disabled?: boolean;
}

export interface Menu {
  readonly element: HTMLElement;
  /** Shows these choices; `note` stands beside the button. */
  update(choices: readonly Choice[], chosen: string, note: string): void;
  close(): void;
}

export function createMenu(name: string, image: IconName, onPick: (id: string) => void): Menu {
  const note = h('span', { class: 'menu-note' });
  const button = h(
    'button',
    {
      type: 'button',
      class: 'control menu-button',
      'aria-haspopup': 'menu',
      'aria-expanded': 'false',
    },
    icon(image),
    note,
  );
  const list = h('div', { role: 'menu', class: 'menu', 'aria-label': name, hidden: true });
  const element = h('div', { class: 'menu-anchor' }, button, list);
  let shown = '';

  const items = (): HTMLElement[] => [
    ...list.querySelectorAll<HTMLElement>('[role="menuitemradio"]'),
  ];
  const isOpen = (): boolean => !list.hidden;
  const setOpen = (open: boolean): void => {
    list.hidden = !open;
    button.setAttribute('aria-expanded', String(open));
    if (open) (items().find((item) => item.ariaChecked === 'true') ?? items()[0])?.focus();
  };
  const leave = (): void => {
    setOpen(false);
    button.focus();
  };
  const step = (by: number): void => {
    const all = items();
    const at = all.findIndex((item) => item === document.activeElement);
    all[(at + by + all.length) % all.length]?.focus();
  };

  button.addEventListener('click', () => setOpen(!isOpen()));
  list.addEventListener('keydown', (event) => {
    const keys: Record<string, () => void> = {
      ArrowDown: () => step(1),
      ArrowUp: () => step(-1),
      Home: () => items()[0]?.focus(),
      End: () => items().at(-1)?.focus(),
      Escape: leave,
    };
    const run = keys[event.key];
    if (event.key === 'Tab') setOpen(false);
    if (!run) return;
    event.preventDefault();
    event.stopPropagation();
    run();
  });
  document.addEventListener('pointerdown', (event) => {
    if (isOpen() && event.target instanceof Node && !element.contains(event.target)) setOpen(false);
  });

  return {
    element,
    close: () => setOpen(false),
    update(choices, chosen, noteText) {
      setText(note, noteText);
      const chosenLabel = choices.find(({ id }) => id === chosen)?.label ?? '';
      button.setAttribute(
        'aria-label',
        `${name}: ${[chosenLabel, noteText].filter(Boolean).join(', ')}`,
      );
      button.title = name;
      element.hidden = choices.length < 2;
      const key = JSON.stringify([choices, chosen]);
      if (key === shown) return;
      shown = key;
      const focused = items().findIndex((item) => item === document.activeElement);
      list.replaceChildren(
        ...choices.map(({ id, label, detail, disabled }) => {
          const item = h(
            'button',
            {
              type: 'button',
              role: 'menuitemradio',
              tabindex: -1,
              'aria-checked': String(id === chosen),
              'data-id': id,
              // Not the property: the keyboard must reach it to hear that it is there.
              'aria-disabled': disabled === true && 'true',
            },
            icon('check'),
            h('span', {}, label),
            h('span', { class: 'menu-detail' }, detail),
          );
          item.addEventListener('click', () => {
            if (disabled === true) return;
            onPick(id);
            leave();
          });
          return item;
        }),
      );
      if (focused >= 0) items()[focused]?.focus();
    },
  };
}
