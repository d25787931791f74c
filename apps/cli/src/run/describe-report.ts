import type { WfReport } from '#libs/executions';
import { cleanText } from '../text/clean-text';
import { count, formatDuration } from '../text/format';

/** The result of converting a WfFormat file, for the person who runs it. */
export function describeReport(report: WfReport): string[] {
  const { tasks, edges, timeScale, workSeconds, criticalPathSeconds, command } = report;
  const scale = timeScale === 1 ? 'real time' : `time x ${timeScale}`;
  const renamed = Object.keys(report.renamed).length;
  return [
    `WfFormat ${cleanText(report.name)}: ${count(tasks, 'task')}, ${count(edges, 'edge')}, ${scale}`,
    `  ${formatDuration(workSeconds * 1_000)} of work, at least ${formatDuration(criticalPathSeconds * 1_000)} along the longest path; each task becomes ${cleanText(command)}`,
    ...(renamed > 0
      ? [`  ${count(renamed, 'task')} got another id, as Belay's are [A-Za-z0-9_.-]{1,64}`]
      : []),
  ];
}
