import type { Access, Login } from './many-servers';

/** As docs/deployment.md has it for Belay's user; a character that a URL would read otherwise is in each password. */
export const BELAY_USER: Login = {
  name: 'belay',
  password: 'p@ss/w:rd?',
  rules: '~belay:* ~{belay:* ~bull:* ~{bull}:* &belay:* +@all -@admin -@dangerous +info'.split(' '),
};
/** And for the one that asks the sentinels. */
const WATCHER: Login = {
  name: 'watcher',
  password: 's&ntinel#1',
  rules: [
    '&+switch-master +@connection +info +subscribe',
    '+sentinel|get-master-addr-by-name +sentinel|sentinels',
  ].flatMap((line) => line.split(' ')),
};

export const BELAY_USERS: NonNullable<Access['users']> = { server: BELAY_USER, sentinel: WATCHER };
