/** `/studio`: the operator's pages. The address after # says which one. */
import './studio.css';
import { h, required } from '../../ui/dom';
import { buildFrame } from '../../ui/frame';
import { Api, ApiError, type NewKey } from './api';
import { showCreate } from './create';
import { showDetail } from './detail';
import { showList } from './list';
import { showSignIn } from './sign-in';

/** Gone with the tab. */
const TOKEN_KEY = 'shoal.token';

const signOut = h('button', { type: 'button', class: 'link-button', hidden: true }, 'Sign out');
const main = buildFrame(required('#app', HTMLElement), 'studio', signOut);
/** Keys made in this tab, until it is left: they cannot be asked for again. */
const keys = new Map<string, NewKey>();
let leave: () => void = () => undefined;

signOut.addEventListener('click', () => {
  sessionStorage.removeItem(TOKEN_KEY);
  keys.clear();
  show();
});
addEventListener('hashchange', () => show());
show();

function show(notice = ''): void {
  leave();
  leave = () => undefined;
  document.title = 'Studio · Shoal';
  const token = sessionStorage.getItem(TOKEN_KEY);
  signOut.hidden = token === null;
  if (token === null) {
    showSignIn(main, notice, (accepted) => {
      sessionStorage.setItem(TOKEN_KEY, accepted);
      show();
    });
    return;
  }
  const api = new Api(token);
  const name = /^#\/([a-z0-9-]{1,64})$/.exec(location.hash)?.[1];
  if (location.hash === '#new') {
    showCreate(main, api, (created, key) => {
      keys.set(created, key);
      location.hash = `#/${created}`;
    });
  } else if (name !== undefined) {
    leave = showDetail(main, { name, api, key: keys.get(name) ?? null, onTrouble });
  } else {
    leave = showList(main, api, onTrouble);
  }
  scrollTo(0, 0);
}

/** Words for a call that failed; null when the answer is another page. */
function onTrouble(cause: unknown): string | null {
  if (!(cause instanceof ApiError)) throw cause;
  if (cause.status === 401 || cause.status === 403) {
    sessionStorage.removeItem(TOKEN_KEY);
    show('The token is no longer accepted. Sign in again.');
    return null;
  }
  if (cause.status === 404) return 'There is no such stream any more.';
  return cause.message;
}
