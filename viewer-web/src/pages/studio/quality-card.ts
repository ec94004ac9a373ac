/** One quality of a stream: how it is doing, and what the operator wants of it. Changed in place. */
import { bitrateLabel, bytesLabel } from '../../controls/words';
import { h, setText } from '../../ui/dom';
import type { QualityChange, Rendition } from './api';
import { Gauge, pick, toggle } from './widgets';

/** A quality's state in words. */
export function qualityState(rendition: Rendition): { label: string; tone: string; text: string } {
  const { id, state, reason, lowered, enabled, encode } = rendition;
  const why = reason === '' ? '' : `: ${reason}`;
  if (state === 'failed') return { label: 'Failed', tone: 'bad', text: `${id} failed${why}` };
  if (state === 'suspended') {
    if (!enabled) return { label: 'Off', tone: '', text: `${id} is switched off` };
    const asleep = encode === 'on_demand' && reason.startsWith('nobody');
    if (asleep) return { label: 'Asleep', tone: '', text: `${id} wakes when somebody watches it` };
    return { label: 'Paused', tone: 'warn', text: `${id} paused${why}` };
  }
  if (lowered === 'effort') {
    return { label: 'Less effort', tone: 'warn', text: `${id} is made with less effort${why}` };
  }
  if (lowered === 'frame_rate') {
    return {
      label: 'Half frame rate',
      tone: 'warn',
      text: `${id} is made at half its frame rate${why}`,
    };
  }
  return { label: 'Live', tone: 'good', text: reason };
}

export class QualityCard {
  readonly element: HTMLElement;
  readonly #badge = h('span', { class: 'badge' });
  readonly #about = h('p', { class: 'muted' });
  readonly #reason = h('p', { class: 'quality-reason' });
  readonly #lag = h('dd');
  readonly #cores = h('dd');
  readonly #watched = h('dd');
  readonly #memory = new Gauge('Memory');
  readonly #enabled;
  readonly #encode;
  readonly #priority;

  constructor(
    { id, kind }: Rendition,
    private readonly onChange: (change: QualityChange) => Promise<void>,
  ) {
    const change = (part: QualityChange): void => void this.#change(part);
    this.#enabled = toggle('On', (enabled) => change({ enabled }));
    this.#encode = pick(
      'When',
      [
        ['always', 'Always'],
        ['on_demand', 'On demand'],
      ],
      (encode) => change({ encode }),
    );
    this.#priority = pick(
      'Priority',
      [
        ['high', 'High'],
        ['medium', 'Medium'],
        ['low', 'Low'],
      ],
      (priority) => change({ priority }),
    );
    const fact = (name: string, value: HTMLElement): HTMLElement =>
      h('div', {}, h('dt', {}, name), value);
    this.element = h(
      'li',
      { class: 'quality', 'data-quality': id },
      h('div', { class: 'quality-head' }, h('h3', {}, id), this.#badge),
      this.#about,
      this.#reason,
      h(
        'dl',
        { class: 'facts' },
        fact('Lag', this.#lag),
        fact('CPU', this.#cores),
        fact('Watched', this.#watched),
      ),
      this.#memory.element,
      // Sound is small and needed by every quality: there is nothing to choose.
      kind !== 'audio' &&
        h(
          'div',
          { class: 'quality-controls', role: 'group', 'aria-label': `What to do with ${id}` },
          this.#enabled.element,
          this.#encode.element,
          this.#priority.element,
        ),
    );
  }

  draw(rendition: Rendition): void {
    const { label, tone, text } = qualityState(rendition);
    setText(this.#badge, label);
    this.#badge.className = `badge ${tone}`;
    setText(this.#reason, text);
    const { kind, width, height, bitrate, codec, encoder } = rendition;
    const size = kind === 'audio' ? 'Audio' : `${width} × ${height}`;
    setText(this.#about, [size, bitrateLabel(bitrate), codec, encoder].filter(Boolean).join(' · '));
    const runs = rendition.state === 'live';
    const { lagMs, cores, memoryBytes, memoryBytesMax } = rendition;
    setText(this.#lag, runs && lagMs !== null ? `${lagMs} ms` : '–');
    setText(this.#cores, runs && cores !== null ? `${cores.toFixed(2)} cores` : '–');
    setText(this.#watched, rendition.watched ? 'yes' : 'no');
    const budget = memoryBytesMax ?? 0;
    const used = memoryBytes ?? 0;
    this.#memory.draw(
      budget > 0 ? used / budget : 0,
      budget > 0 ? `${bytesLabel(used)} of ${bytesLabel(budget)}` : bytesLabel(used),
    );
    this.#enabled.draw(rendition.enabled);
    this.#encode.draw(rendition.encode);
    this.#priority.draw(rendition.priority);
  }

  async #change(part: QualityChange): Promise<void> {
    const controls = [this.#enabled, this.#encode, this.#priority];
    for (const control of controls) control.hold(true);
    await this.onChange(part);
    for (const control of controls) control.hold(false);
  }
}
