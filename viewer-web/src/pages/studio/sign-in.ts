/** Asks for the admin token. */
import { h } from '../../ui/dom';
import { Api, ApiError } from './api';

/** Shows the form; calls `onToken` with a token that the server accepted. */
export function showSignIn(
  main: HTMLElement,
  notice: string,
  onToken: (token: string) => void,
): void {
  const input = h('input', {
    id: 'token',
    type: 'password',
    required: true,
    autocomplete: 'current-password',
    spellcheck: 'false',
    'aria-describedby': 'token-hint sign-in-error',
  });
  const error = h('p', { id: 'sign-in-error', class: 'note bad', role: 'alert', hidden: true });
  const submit = h('button', { type: 'submit', class: 'button primary' }, 'Sign in');
  const form = h(
    'form',
    { class: 'panel sign-in' },
    h('h1', {}, 'Studio'),
    h('p', { class: 'muted' }, 'Create streams, connect an encoder and see how they are doing.'),
    error,
    h('label', { for: 'token' }, 'Admin token'),
    input,
    h(
      'p',
      { id: 'token-hint', class: 'hint' },
      'The broadcaster printed it at its first start and keeps it in the file ',
      h('code', {}, 'admin-token'),
      ' of its data directory. It stays in this tab only.',
    ),
    submit,
  );
  if (notice) show(error, notice);
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    void signIn();
  });
  main.replaceChildren(form);
  input.focus();

  async function signIn(): Promise<void> {
    const token = input.value.trim();
    submit.disabled = true;
    try {
      await new Api(token).streams();
      onToken(token);
    } catch (cause) {
      const wrong = cause instanceof ApiError && (cause.status === 401 || cause.status === 403);
      show(error, wrong ? 'The server does not accept this token.' : (cause as Error).message);
      input.select();
    } finally {
      submit.disabled = false;
    }
  }
}

function show(element: HTMLElement, message: string): void {
  element.textContent = message;
  element.hidden = false;
}
