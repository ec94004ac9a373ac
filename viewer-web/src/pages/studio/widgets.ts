/** Small parts of the studio's pages. */
import { h, setText } from '../../ui/dom';
import { icon } from '../../ui/icons';
import type { StreamState } from './api';

/** A stream's state in words. */
export const STATE_WORDS: Readonly<Record<StreamState, { label: string; tone: string }>> = {
  waiting: { label: 'Waiting for the encoder', tone: '' },
  live: { label: 'Live', tone: 'live' },
  grace: { label: 'Encoder gone', tone: 'warn' },
  failed: { label: 'Failed', tone: 'bad' },
  ended: { label: 'Ended', tone: '' },
};

export function stateBadge(state: StreamState): HTMLElement {
  const { label, tone } = STATE_WORDS[state];
  return h('span', { class: `badge ${tone}` }, label);
}

/** A labelled value with a button that copies it. */
export function copyRow(label: string, value: string, secret: boolean): HTMLElement {
  const code = h('code', {}, value);
  const button = h('button', { type: 'button', class: 'button' }, icon('copy'), 'Copy');
  button.setAttribute('aria-label', `Copy ${label.toLowerCase()}`);
  button.addEventListener('click', () => void copy(value, code, button));
  return h(
    'div',
    { class: 'copy-row' },
    h('span', { class: 'field-label' }, label),
    h('div', { class: 'copy-value', 'data-secret': secret && 'key' }, code, button),
  );
}

async function copy(value: string, code: HTMLElement, button: HTMLButtonElement): Promise<void> {
  const word = button.lastChild;
  if (!word) return;
  try {
    await navigator.clipboard.writeText(value);
    word.textContent = 'Copied';
  } catch {
    // Without HTTPS there is no clipboard: select it, so that the keyboard can copy.
    getSelection()?.selectAllChildren(code);
    word.textContent = 'Selected';
  }
  setTimeout(() => {
    word.textContent = 'Copy';
  }, 2_000);
}

/** Asks before something that cannot be undone. */
export function ask(title: string, detail: string, action: string): Promise<boolean> {
  return new Promise((resolve) => {
    const yes = h('button', { type: 'submit', value: 'yes', class: 'button danger' }, action);
    const no = h(
      'button',
      { type: 'submit', value: 'no', class: 'button', autofocus: true },
      'Cancel',
    );
    const dialog = h(
      'dialog',
      { class: 'ask', 'aria-labelledby': 'ask-title' },
      h(
        'form',
        { method: 'dialog' },
        h('h2', { id: 'ask-title' }, title),
        h('p', {}, detail),
        h('div', { class: 'actions' }, no, yes),
      ),
    );
    dialog.addEventListener('close', () => {
      dialog.remove();
      resolve(dialog.returnValue === 'yes');
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** One number with its name; the number changes in place. */
export class Tile {
  readonly element: HTMLElement;
  readonly #value = h('dd');
  readonly #hint = h('dd', { class: 'tile-hint', hidden: true });

  constructor(label: string) {
    this.element = h('div', { class: 'tile' }, h('dt', {}, label), this.#value);
    this.#value.after(this.#hint);
  }

  draw(value: string, hint = '', tone = ''): void {
    setText(this.#value, value);
    this.#value.dataset.tone = tone;
    this.#hint.hidden = hint === '';
    setText(this.#hint, hint);
  }
}

/** A choice of the operator, shown as the server has it. */
export interface Control<T> {
  readonly element: HTMLElement;
  draw(value: T): void;
  /** While a change is under way, what the server says is older than what was chosen. */
  hold(held: boolean): void;
}

/** A switch. */
export function toggle(label: string, onChange: (on: boolean) => void): Control<boolean> {
  const input = h('input', { type: 'checkbox', role: 'switch' });
  let held = false;
  input.addEventListener('change', () => onChange(input.checked));
  return {
    element: h('label', { class: 'switch' }, input, label),
    draw(on) {
      if (!held) input.checked = on;
    },
    hold(on) {
      held = on;
    },
  };
}

/** One of a few. */
export function pick<T extends string>(
  label: string,
  choices: readonly (readonly [T, string])[],
  onChange: (value: T) => void,
): Control<T> {
  const select = h('select', {}, ...choices.map(([value, name]) => h('option', { value }, name)));
  let held = false;
  select.addEventListener('change', () => {
    const chosen = choices.find(([value]) => value === select.value);
    if (chosen) onChange(chosen[0]);
  });
  return {
    element: h('label', { class: 'pick' }, h('span', { class: 'muted' }, label), select),
    draw(value) {
      if (!held && select.value !== value) select.value = value;
    },
    hold(on) {
      held = on;
    },
  };
}

/** How much of something is used, as a bar with words. */
export class Gauge {
  readonly element: HTMLElement;
  readonly #value = h('span', { class: 'gauge-value' });
  readonly #bar = h('span', { class: 'gauge-fill' });

  constructor(label: string) {
    this.element = h(
      'div',
      { class: 'gauge' },
      h('div', { class: 'gauge-head' }, h('span', { class: 'muted' }, label), this.#value),
      h('div', { class: 'gauge-track', 'aria-hidden': 'true' }, this.#bar),
    );
  }

  /** @param share 0 to 1 */
  draw(share: number, text: string): void {
    setText(this.#value, text);
    this.#bar.style.width = `${Math.min(1, Math.max(0, share)) * 100}%`;
    this.#bar.dataset.tone = share > 0.9 ? 'bad' : share > 0.7 ? 'warn' : '';
  }
}
