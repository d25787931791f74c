import { type Setting, SETTINGS } from './setting-table';
import { type Settings, type SettingSource } from './settings.types';
import { maskUrl } from './valkey-url';

/** One line of `belay doctor`. */
export interface SettingRow {
  readonly name: string;
  readonly value: string;
  readonly default: string;
  readonly source: SettingSource;
  readonly description: string;
}

/** Every setting with its value and its source; secrets are masked. */
export function describeSettings(settings: Settings): SettingRow[] {
  return SETTINGS.map((setting) => ({
    name: setting.name,
    value: showSetting(setting, settings),
    default: setting.fallback ?? `(${setting.unset})`,
    source: settings.sources[setting.name]!,
    description: setting.description,
  }));
}

function showSetting(setting: Setting, settings: Settings): string {
  const value = settings[setting.key] as never;
  if (value === undefined) return '';
  const text = setting.kind.format(value);
  if (setting.key === 'valkeyUrl') return maskUrl(text);
  return setting.secret === true ? '********' : text;
}
