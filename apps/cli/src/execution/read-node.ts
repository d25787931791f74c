import type { BelayClient, NodeDetail } from '#libs/client';
import { BelayError, isBelayError } from '#libs/contracts';
import { cleanText } from '../text/clean-text';

/** One node. The error for an unknown name says where the names are listed. */
export async function readNode(
  client: BelayClient,
  executionId: string,
  nodeId: string,
): Promise<NodeDetail> {
  try {
    return await client.node(executionId, nodeId);
  } catch (error) {
    if (!isBelayError(error) || error.code !== 'NOT_FOUND') throw error;
    // If the execution does not exist, that is the error.
    await client.execution(executionId);
    const message = `${executionId} has no node "${cleanText(nodeId)}". List its nodes with: belay get ${executionId}`;
    throw new BelayError(error.code, message, { cause: error, details: error.details });
  }
}
