/** Small drawn charts of the last two minutes. Geometry is pure; drawing sets attributes. */
import { h, setAttributes, setText, svg } from '../ui/dom';
import type { History } from '../player/stats';

const WIDTH = 300;
const HEIGHT = 48;
/** The span of the time axis. */
const SPAN_MS = 120_000;

/** A value over time; null leaves a gap. */
export interface Point {
  atMs: number;
  value: number | null;
}

/** The `d` of a path through the points, newest at the right edge, 0 at the bottom. */
export function linePath(points: readonly Point[], nowMs: number, max: number): string {
  let path = '';
  let pen = false;
  for (const { atMs, value } of points) {
    if (value === null) {
      pen = false;
      continue;
    }
    const x = WIDTH * (1 - (nowMs - atMs) / SPAN_MS);
    const y = HEIGHT - (Math.min(Math.max(value, 0), max) / max) * (HEIGHT - 2) - 1;
    path += `${pen ? 'L' : 'M'}${x.toFixed(1)} ${y.toFixed(1)}`;
    pen = true;
  }
  return path;
}

/** The top of an axis that holds the points: a round number of seconds. */
export function axisMax(points: readonly Point[], atLeast: number): number {
  const top = Math.max(atLeast, ...points.map(({ value }) => value ?? 0));
  return [1, 2, 4, 6, 10, 20, 30, 60, 120].find((step) => step >= top) ?? 300;
}

export interface Chart {
  readonly element: HTMLElement;
  draw(history: History, nowMs: number): void;
}

/** A line of one number of the samples, in seconds. */
export function createLineChart(
  name: string,
  pick: (sample: History['samples'][number]) => number | null,
): Chart {
  const path = svg('path', { class: 'line', fill: 'none' });
  const value = h('output', { class: 'chart-value' });
  const scale = h('span', { class: 'chart-scale' });
  const picture = svg(
    'svg',
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', 'aria-hidden': 'true' },
    svg('line', { class: 'grid', x1: 0, x2: WIDTH, y1: HEIGHT / 2, y2: HEIGHT / 2 }),
    path,
  );
  return {
    element: h(
      'div',
      { class: 'chart' },
      h('div', { class: 'chart-head' }, h('span', {}, name), value),
      h('div', { class: 'chart-plot' }, picture, scale),
    ),
    draw(history, nowMs) {
      const points = history.samples.map((sample) => ({ atMs: sample.atMs, value: pick(sample) }));
      const max = axisMax(points, 2);
      setAttributes(path, { d: linePath(points, nowMs, max) });
      const last = points.at(-1)?.value ?? null;
      setText(value, last === null ? '–' : `${last.toFixed(2)} s`);
      setText(scale, `${max} s`);
    },
  };
}

/** Which quality was on screen when. */
export function createQualityTimeline(): Chart {
  const bar = h('div', { class: 'timeline', 'aria-hidden': 'true' });
  const value = h('output', { class: 'chart-value' });
  return {
    element: h(
      'div',
      { class: 'chart' },
      h('div', { class: 'chart-head' }, h('span', {}, 'Quality'), value),
      bar,
    ),
    draw(history, nowMs) {
      const runs = history.qualityRuns();
      setText(value, runs.at(-1)?.quality ?? '–');
      const names = [...new Set(runs.map(({ quality }) => quality))];
      bar.replaceChildren(
        ...runs.map(({ quality, fromMs, toMs }) => {
          const piece = h('span', {
            class: quality === null ? 'run none' : `run tone-${names.indexOf(quality) % 4}`,
            title: quality ?? 'nothing',
          });
          piece.style.left = `${Math.max(0, 100 * (1 - (nowMs - fromMs) / SPAN_MS))}%`;
          piece.style.right = `${(100 * (nowMs - toMs)) / SPAN_MS}%`;
          setText(piece, toMs - fromMs > SPAN_MS / 6 ? (quality ?? '') : '');
          return piece;
        }),
      );
    },
  };
}
