/** The statistics over the picture: charts and the numbers of `stats()`. */
import { h, setText } from '../ui/dom';
import { icon } from '../ui/icons';
import type { Viewer } from '../player/api';
import type { ViewerStats } from '../player/stats';
import { createLineChart, createQualityTimeline } from './charts';
import { bitrateLabel, bytesLabel } from './words';

/** Rows of numbers, in the order of reading. */
const ROWS: readonly [string, (stats: ViewerStats) => string][] = [
  ['First frame', ({ firstFrameMs }) => (firstFrameMs === null ? '–' : `${firstFrameMs} ms`)],
  ['Stalls', ({ stalls, stalledS }) => `${stalls} (${stalledS.toFixed(1)} s)`],
  ['Quality changes', ({ qualitySwitches }) => String(qualitySwitches)],
  ['Bandwidth', ({ bandwidthBps }) => bitrateLabel(bandwidthBps) || '–'],
  ['Round trip', ({ rttMs, jitterMs }) => `${rttMs.toFixed(0)} ms ± ${jitterMs.toFixed(0)} ms`],
  ['Failed requests', ({ lossRatio }) => `${(lossRatio * 100).toFixed(1)} %`],
  ['Loaded', ({ bytesHttp }) => bytesLabel(bytesHttp)],
  ['Shown', ({ bytesPlayed }) => bytesLabel(bytesPlayed)],
  ['Sharing', ({ p2p, peers }) => (p2p === 'on' ? `${peers} viewers` : p2p)],
];

export interface StatsPanel {
  readonly element: HTMLElement;
  toggle(): void;
  readonly isOpen: boolean;
}

export function createStatsPanel(viewer: Viewer, onToggle: () => void): StatsPanel {
  const charts = [
    createLineChart('Latency', ({ latencyS }) => latencyS),
    createLineChart('Buffer', ({ bufferS }) => bufferS),
    createQualityTimeline(),
  ];
  const cells = ROWS.map(() => h('dd'));
  const close = h(
    'button',
    { type: 'button', class: 'control close', 'aria-label': 'Close statistics' },
    icon('close'),
  );
  const element = h(
    'section',
    { class: 'stats-panel', 'aria-label': 'Statistics', hidden: true, tabindex: -1 },
    h('div', { class: 'stats-head' }, h('h2', {}, 'Statistics'), close),
    ...charts.map((chart) => chart.element),
    h('dl', {}, ...ROWS.map(([name], i) => h('div', {}, h('dt', {}, name), cells[i]))),
  );
  let timer: ReturnType<typeof setInterval> | null = null;

  const draw = (): void => {
    const stats = viewer.stats();
    const now = performance.now();
    for (const chart of charts) chart.draw(viewer.history, now);
    ROWS.forEach(([, text], i) => {
      const cell = cells[i];
      if (cell) setText(cell, text(stats));
    });
  };
  const toggle = (): void => {
    element.hidden = !element.hidden;
    if (timer !== null) clearInterval(timer);
    timer = element.hidden ? null : setInterval(draw, 500);
    if (!element.hidden) draw();
    onToggle();
  };
  close.addEventListener('click', toggle);
  return {
    element,
    toggle,
    get isOpen() {
      return !element.hidden;
    },
  };
}
