/**
 * Settings come only from the environment. setting-table.ts is their only list: reading, checking, `belay doctor` and the docs
 * follow it.
 */
export { checkFencing, FENCE_KILL_MS, FENCE_SLACK_MS, type FencingTimes } from './check-fencing';
export { describeSettings, type SettingRow } from './describe-settings';
export { formatDuration, parseDuration } from './parse-duration';
export { type Environment, readSettings } from './read-settings';
export { type Setting, SETTINGS } from './setting-table';
export { LOG_LEVELS, type LogLevel, type Settings, type SettingSource } from './settings.types';
export { describeUrl, maskUrl, parseValkeyUrl } from './valkey-url';
export type { ValkeyAddress, ValkeyMode, ValkeyNode } from './valkey-url';
export { retentionOf, type Retention } from './retention';
