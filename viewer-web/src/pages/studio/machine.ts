/** The machine: what is used of it, by whom, what was switched because of it, and the switches. */
import { linePath, type Point } from '../../controls/charts';
import { bytesLabel } from '../../controls/words';
import { h, setAttributes, setText, svg } from '../../ui/dom';
import type { LimitsChange, QualityEvent, Resources, Worker } from './resources';
import { Gauge, toggle } from './widgets';

/** Changes shown. */
const CHANGES_MAX = 8;
/** Two minutes at one sample in two seconds. */
const SAMPLES_MAX = 61;

export class MachinePanel {
  readonly element: HTMLElement;
  readonly #cpu = new Gauge('CPU');
  readonly #memory = new Gauge('Memory');
  readonly #line = svg('path', { class: 'line', fill: 'none' });
  readonly #points: Point[] = [];
  readonly #workers = h('tbody');
  readonly #changes = h('ol', { class: 'changes' });
  readonly #noChanges = h('p', { class: 'muted' }, 'No quality was switched so far.');
  readonly #degradation;
  readonly #onDemand;

  constructor(private readonly onChange: (change: LimitsChange) => Promise<void>) {
    this.#degradation = toggle(
      'Pause qualities when there is not enough for all',
      (degradation) => void this.#change({ degradation }),
    );
    this.#onDemand = toggle(
      'Let qualities be made on demand',
      (on_demand) => void this.#change({ on_demand }),
    );
    this.element = this.#build();
  }

  draw(resources: Resources, nowMs: number): void {
    const { host } = resources;
    if (host) {
      const share = host.cores > 0 ? host.cpuBusy / host.cores : 0;
      this.#cpu.draw(share, `${host.cpuBusy.toFixed(1)} of ${host.cores} cores`);
      const { memoryBytes, memoryLimitBytes } = host;
      this.#memory.draw(
        memoryLimitBytes > 0 ? memoryBytes / memoryLimitBytes : 0,
        `${bytesLabel(memoryBytes)} of ${bytesLabel(memoryLimitBytes)}`,
      );
      this.#points.push({ atMs: nowMs, value: share });
      if (this.#points.length > SAMPLES_MAX) this.#points.shift();
      setAttributes(this.#line, { d: linePath(this.#points, nowMs, 1) });
    } else {
      this.#cpu.draw(0, '–');
      this.#memory.draw(0, '–');
    }
    this.#drawWorkers(resources.workers);
    this.#drawChanges(resources.changes.slice(0, CHANGES_MAX));
    this.#degradation.draw(resources.degradation);
    this.#onDemand.draw(resources.onDemand);
  }

  #build(): HTMLElement {
    const spark = svg(
      'svg',
      { viewBox: '0 0 300 48', preserveAspectRatio: 'none', 'aria-hidden': 'true', class: 'spark' },
      this.#line,
    );
    const head = ['Worker', 'CPU', 'Memory', 'Speed'].map((name) =>
      h('th', { scope: 'col' }, name),
    );
    return h(
      'section',
      { class: 'panel machine', 'aria-labelledby': 'machine-title' },
      h('h2', { id: 'machine-title' }, 'Machine'),
      h(
        'div',
        { class: 'machine-columns' },
        h('div', { class: 'machine-use' }, this.#cpu.element, spark, this.#memory.element),
        h(
          'div',
          {
            class: 'table-scroll',
            tabindex: 0,
            role: 'region',
            'aria-label': 'Table of workers',
          },
          h('table', {}, h('thead', {}, h('tr', {}, ...head)), this.#workers),
        ),
      ),
      h(
        'div',
        { class: 'machine-switches', role: 'group', 'aria-label': 'For all streams' },
        this.#degradation.element,
        this.#onDemand.element,
      ),
      h('h3', {}, 'Recent changes'),
      this.#noChanges,
      this.#changes,
    );
  }

  #drawWorkers(workers: readonly Worker[]): void {
    const rows = workers.map(({ stream, cpuPercent, memoryBytes, speed }) => [
      stream,
      cpuPercent === null ? '–' : `${Math.round(cpuPercent)} %`,
      memoryBytes === null ? '–' : bytesLabel(memoryBytes),
      speed === null || speed <= 0 ? '–' : `${speed.toFixed(2)} ×`,
    ]);
    if (this.#workers.rows.length !== rows.length) {
      this.#workers.replaceChildren(
        ...rows.map((cells) =>
          h('tr', {}, ...cells.map((_, i) => (i === 0 ? h('th', { scope: 'row' }) : h('td')))),
        ),
      );
    }
    for (const [i, cells] of rows.entries()) {
      for (const [j, value] of cells.entries()) {
        const cell = this.#workers.rows[i]?.cells[j];
        if (cell) setText(cell, value);
      }
    }
  }

  #drawChanges(changes: readonly QualityEvent[]): void {
    this.#noChanges.hidden = changes.length > 0;
    this.#changes.hidden = changes.length === 0;
    const items = changes.map(({ at, text, byLoad }) =>
      h(
        'li',
        {},
        h('time', { datetime: at, class: 'muted' }, timeLabel(at)),
        h('span', { class: byLoad && 'by-load' }, text),
      ),
    );
    const isSame = this.#changes.textContent === items.map((item) => item.textContent).join('');
    if (!isSame) this.#changes.replaceChildren(...items);
  }

  async #change(change: LimitsChange): Promise<void> {
    for (const control of [this.#degradation, this.#onDemand]) control.hold(true);
    await this.onChange(change);
    for (const control of [this.#degradation, this.#onDemand]) control.hold(false);
  }
}

/** The time of day, in the operator's own way of writing it. */
function timeLabel(at: string): string {
  const date = new Date(at);
  return Number.isNaN(date.getTime()) ? '' : date.toLocaleTimeString();
}
