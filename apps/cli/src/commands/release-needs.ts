import { InvalidArgumentError, Option } from 'commander';
import { MOST_RELEASERS } from '#libs/contracts';

/** `--release-needs`: how many different people must release the latch. */
export function releaseNeedsOption(): Option {
  return new Option(
    '--release-needs <people>',
    'how many different people must release the latch: 1 or 2',
  ).argParser((text) => {
    const people = /^\d$/.test(text) ? Number(text) : 0;
    if (people >= 1 && people <= MOST_RELEASERS) return people;
    throw new InvalidArgumentError('It must be 1 or 2.');
  });
}
