import type { BelayClient, NodeDetail } from '#libs/client';
import { BelayError, isBelayError } from '#libs/contracts';
import { cleanText } from '../text/clean-text';

/** One node; that there is none of that name comes with where the names are. */
export async function readNode(
  client: BelayClient,
  executionId: string,
  nodeId: string,
): Promise<NodeDetail> {
  try {
    return await client.node(executionId, nodeId);
  } catch (error) {
    if (!isBelayError(error) || error.code !== 'NOT_FOUND') throw error;
    // Where it is the execution that is not there, that is the error.
    await client.execution(executionId);
    const message = `${executionId} has no node "${cleanText(nodeId)}". List its nodes with: belay get ${executionId}`;
    throw new BelayError(error.code, message, { cause: error, details: error.details });
  }
}
