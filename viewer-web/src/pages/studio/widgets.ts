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
