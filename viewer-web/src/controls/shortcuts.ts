/** Keyboard shortcuts: which key means what is pure; listening is one function. */

export type Action =
  | 'toggle-play'
  | 'toggle-mute'
  | 'toggle-fullscreen'
  | 'toggle-pip'
  | 'toggle-stats'
  | 'toggle-help'
  | 'go-live'
  | 'back'
  | 'forward'
  | 'louder'
  | 'quieter';

/** As the help lists them. */
export const SHORTCUTS: readonly { keys: readonly string[]; action: Action; label: string }[] = [
  { keys: ['Space', 'k'], action: 'toggle-play', label: 'Play or pause' },
  { keys: ['m'], action: 'toggle-mute', label: 'Sound on or off' },
  { keys: ['↑'], action: 'louder', label: 'Louder' },
  { keys: ['↓'], action: 'quieter', label: 'Quieter' },
  { keys: ['←'], action: 'back', label: 'Back 5 seconds' },
  { keys: ['→'], action: 'forward', label: 'Forward 5 seconds' },
  { keys: ['l'], action: 'go-live', label: 'Go to live' },
  { keys: ['f'], action: 'toggle-fullscreen', label: 'Full screen' },
  { keys: ['p'], action: 'toggle-pip', label: 'Picture in picture' },
  { keys: ['i'], action: 'toggle-stats', label: 'Statistics' },
  { keys: ['?'], action: 'toggle-help', label: 'This help' },
];

const BY_KEY: Readonly<Record<string, Action>> = {
  ' ': 'toggle-play',
  k: 'toggle-play',
  m: 'toggle-mute',
  f: 'toggle-fullscreen',
  p: 'toggle-pip',
  i: 'toggle-stats',
  '?': 'toggle-help',
  l: 'go-live',
  ArrowLeft: 'back',
  ArrowRight: 'forward',
  ArrowUp: 'louder',
  ArrowDown: 'quieter',
};

/** What decides about a key press. */
export interface KeyPress {
  key: string;
  modified: boolean;
  /** What has the focus: text takes every key, a control those that work it. */
  focus: 'text' | 'slider' | 'menu' | 'button' | 'other';
}

/** The action of a key press; null when the key belongs to something else. */
export function actionFor({ key, modified, focus }: KeyPress): Action | null {
  if (modified || focus === 'text') return null;
  const action = BY_KEY[key.length === 1 ? key.toLowerCase() : key] ?? null;
  if (action === null) return null;
  if (focus === 'button' && key === ' ') return null;
  if ((focus === 'slider' || focus === 'menu') && (key.startsWith('Arrow') || key === ' '))
    return null;
  return action;
}

/** Calls `run` for shortcuts pressed anywhere in the page, until `signal` aborts. */
export function listenForShortcuts(run: (action: Action) => void, signal: AbortSignal): void {
  document.addEventListener(
    'keydown',
    (event) => {
      const action = actionFor({
        key: event.key,
        modified: event.ctrlKey || event.metaKey || event.altKey,
        focus: focusOf(event.target),
      });
      if (action === null || event.defaultPrevented) return;
      event.preventDefault();
      run(action);
    },
    { signal },
  );
}

function focusOf(target: EventTarget | null): KeyPress['focus'] {
  if (!(target instanceof HTMLElement)) return 'other';
  if (target.isContentEditable || target instanceof HTMLTextAreaElement) return 'text';
  if (target instanceof HTMLInputElement) return target.type === 'range' ? 'slider' : 'text';
  if (target instanceof HTMLSelectElement) return 'text';
  if (target.closest('[role="menu"]')) return 'menu';
  if (target.closest('button, a[href], summary')) return 'button';
  return 'other';
}
