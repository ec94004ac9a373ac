/** Shoal's player as a library: one video element, one live stream, no page around it. */
export { createViewer } from './player/viewer';
export type { Viewer, ViewerEvents, ViewerOptions, ViewerState } from './player/api';
export type { Fault, Phase, StreamState } from './player/playback';
export type { RenditionInfo, StreamInfo } from './player/info';
export type { Quality } from './player/source';
export type { History, P2pState, Sample, ViewerStats } from './player/stats';
