import type { Frame } from './harness.mjs';
import type { AxeResults } from 'axe-core';

declare global {
  interface Window {
    probe: {
      presented(): number;
      start(): void;
      take(): { frames: Frame[]; unread: number; dropped: number; total: number };
    };
    axe: { run(context: Document, options: object): Promise<AxeResults> };
  }
}
