import { BelayError, OutcomeUnknownError } from '#libs/contracts';
import { untilAnswered } from './until-answered';

const unknown = (): Promise<never> =>
  Promise.reject(new OutcomeUnknownError('script claimNode', new Error('read ECONNRESET')));

describe('a call of the server whose answer may be lost', () => {
  it('is made again until there is an answer, and each loss is told', async () => {
    const onError = jest.fn();
    const ask = jest
      .fn(async () => 'granted')
      .mockImplementationOnce(unknown)
      .mockImplementationOnce(unknown);
    expect(await untilAnswered({ onError }, 'agt_1', ask)).toBe('granted');
    expect(ask).toHaveBeenCalledTimes(3);
    expect(onError.mock.calls).toEqual([
      [expect.any(OutcomeUnknownError), 'agt_1'],
      [expect.any(OutcomeUnknownError), 'agt_1'],
    ]);
  });

  it('is given up where the answer is of no use any more, or this worker closes', async () => {
    const ask = jest.fn(unknown);
    expect(await untilAnswered({}, 'agt_1', ask, () => true)).toBeUndefined();
    expect(await untilAnswered({ closing: AbortSignal.abort() }, 'agt_1', ask)).toBeUndefined();
    expect(ask).toHaveBeenCalledTimes(2);
  });

  it('is not made again after an answer that refuses it', async () => {
    const ask = jest.fn(async () => {
      throw new BelayError('NOT_FOUND', 'No agent agt_1.');
    });
    await expect(untilAnswered({}, 'agt_1', ask)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(ask).toHaveBeenCalledTimes(1);
  });
});
