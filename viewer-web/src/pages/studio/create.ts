/** The form for a new stream. */
import { h } from '../../ui/dom';
import type { Api, NewKey, NewStream } from './api';

/** Rungs to choose from, as the broadcaster's presets name them. */
const RUNGS: readonly [string, string][] = [
  ['source', 'as sent, no re-encoding'],
  ['1080p', '1920 × 1080'],
  ['720p', '1280 × 720'],
  ['480p', '854 × 480'],
  ['360p', '640 × 360'],
  ['240p', '426 × 240'],
];

export function showCreate(
  main: HTMLElement,
  api: Api,
  onDone: (name: string, key: NewKey) => void,
): void {
  const name = h('input', {
    id: 'name',
    required: true,
    maxlength: 64,
    pattern: '[a-z0-9\\-]+',
    autocomplete: 'off',
    autocapitalize: 'none',
    spellcheck: 'false',
    'aria-describedby': 'name-hint',
  });
  const title = h('input', { id: 'title', maxlength: 200, autocomplete: 'off' });
  const file = h('input', {
    id: 'file',
    autocomplete: 'off',
    spellcheck: 'false',
    placeholder: '/srv/video/show.mp4',
    'aria-describedby': 'file-hint',
  });
  const repeat = h('input', { type: 'checkbox', id: 'repeat', checked: true });
  const fileField = h(
    'div',
    { class: 'field', hidden: true },
    h('label', { for: 'file' }, 'File on the server'),
    file,
    h('p', { id: 'file-hint', class: 'hint' }, 'It is played in real time.'),
    h('label', { class: 'choice' }, repeat, h('span', {}, 'Begin again at its end')),
  );
  const rungs = h(
    'div',
    { class: 'rungs', hidden: true, role: 'group', 'aria-label': 'Qualities' },
    ...RUNGS.map(([id, detail]) =>
      h(
        'label',
        { class: 'choice' },
        h('input', {
          type: 'checkbox',
          name: 'rung',
          value: id,
          checked: id === '720p' || id === '480p',
        }),
        h('span', {}, h('strong', {}, id), ' ', h('span', { class: 'muted' }, detail)),
      ),
    ),
  );
  const error = h('p', { class: 'note bad', role: 'alert', hidden: true });
  const submit = h('button', { type: 'submit', class: 'button primary' }, 'Create stream');
  const form = h(
    'form',
    { class: 'panel create' },
    h('h1', {}, 'New stream'),
    field(
      'name',
      'Name',
      name,
      'Small letters, digits and hyphens. It becomes part of the address.',
    ),
    field('title', 'Title', title, 'What viewers read. May stay empty.'),
    choices('Where the picture comes from', 'source', [
      ['rtmp', 'An encoder', 'OBS, ffmpeg or a phone sends it by RTMP'],
      ['test', 'Test picture', 'moving bars, a clock and a beep'],
      ['file', 'A file', 'on the server'],
    ]),
    fileField,
    choices('Qualities', 'ladder', [
      ['auto', 'Automatic', 'what this server can encode in real time'],
      ['passthrough', 'As sent', 'one quality, no re-encoding, least work'],
      ['custom', 'My choice', 'pick them below'],
    ]),
    rungs,
    error,
    h('div', { class: 'actions' }, h('a', { class: 'button', href: '#' }, 'Cancel'), submit),
  );
  form.addEventListener('change', () => {
    const data = new FormData(form);
    fileField.hidden = data.get('source') !== 'file';
    file.required = !fileField.hidden;
    rungs.hidden = data.get('ladder') !== 'custom';
  });
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    void create();
  });
  main.replaceChildren(form);
  name.focus();

  async function create(): Promise<void> {
    error.hidden = true;
    const data = new FormData(form);
    const picked = data.getAll('rung').map(String);
    const ladder = data.get('ladder');
    if (ladder === 'custom' && picked.length === 0) {
      complain('Pick at least one quality.');
      return;
    }
    const source = data.get('source');
    const stream: NewStream = {
      name: name.value,
      title: title.value.trim(),
      source: source === 'file' ? `file:${file.value.trim()}` : source === 'test' ? 'test' : 'rtmp',
      repeat: source === 'file' && repeat.checked,
      ladder: ladder === 'custom' ? picked : ladder === 'passthrough' ? 'passthrough' : 'auto',
    };
    submit.disabled = true;
    try {
      onDone(stream.name, await api.create(stream));
    } catch (cause) {
      complain((cause as Error).message);
    } finally {
      submit.disabled = false;
    }
  }

  function complain(message: string): void {
    error.textContent = message;
    error.hidden = false;
  }
}

function field(id: string, label: string, input: HTMLElement, hint: string): HTMLElement {
  input.setAttribute('aria-describedby', `${id}-hint`);
  return h(
    'div',
    { class: 'field' },
    h('label', { for: id }, label),
    input,
    h('p', { id: `${id}-hint`, class: 'hint' }, hint),
  );
}

/** A group of radio buttons, the first one chosen. */
function choices(
  legend: string,
  name: string,
  options: readonly (readonly [string, string, string])[],
): HTMLElement {
  return h(
    'fieldset',
    {},
    h('legend', {}, legend),
    ...options.map(([value, label, detail], i) =>
      h(
        'label',
        { class: 'choice' },
        h('input', { type: 'radio', name, value, checked: i === 0 }),
        h('span', {}, h('strong', {}, label), ' ', h('span', { class: 'muted' }, detail)),
      ),
    ),
  );
}
