import type { Access, Login } from './many-servers';

/** As in docs/deployment.md for Belay's user. Each password has a character with a meaning in URLs. */
export const BELAY_USER: Login = {
  name: 'belay',
  password: 'p@ss/w:rd?',
  rules: '~belay:* ~{belay:* ~bull:* ~{bull}:* &belay:* +@all -@admin -@dangerous +info'.split(' '),
};
/** The user for the sentinels. */
const WATCHER: Login = {
  name: 'watcher',
  password: 's&ntinel#1',
  rules: [
    '&+switch-master +@connection +info +subscribe',
    '+sentinel|get-master-addr-by-name +sentinel|sentinels',
  ].flatMap((line) => line.split(' ')),
};

export const BELAY_USERS: NonNullable<Access['users']> = { server: BELAY_USER, sentinel: WATCHER };
