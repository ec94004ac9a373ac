/** `/embed/{stream}`: the player alone, filling its frame. */
import '../ui/theme.css';
import './embed.css';
import { required } from '../ui/dom';
import { openStream } from './stream-page';

const { player, stream } = openStream();
required('#app', HTMLElement).replaceChildren(player.element);
player.viewer.on('info', ({ title }) => {
  document.title = title || stream || 'Shoal player';
});
