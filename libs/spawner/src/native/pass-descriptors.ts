import { closeSync } from 'node:fs';
import { constants } from 'node:os';
import { orThrow, type Libc } from './libc';
import { isErrno, NativeError } from './native-error';

const AF_UNIX = 1;
/** Preserves the boundaries of messages. */
const SOCK_SEQPACKET = 5;
const SOCK_CLOEXEC = 0o2000000;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;
/** Part of the message was lost, because this process has no descriptors left. */
const MSG_CTRUNC = 0x8;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;

/**
 * struct msghdr, iovec and cmsghdr of 64-bit Linux. musl has narrower fields with padding behind, which is the same in little
 * endian.
 */
const MESSAGE_BYTES = 56;
const AT = { parts: 16, partCount: 24, control: 32, controlLength: 40, flags: 48 } as const;
const CONTROL_HEADER_BYTES = 16;
const TAG_BYTES = 4;
/** One message carries at most this many descriptors. */
const MOST = 8;

/** Two ends of a socket that passes descriptors. The caller closes both. @throws NativeError */
export function descriptorSocket(libc: Libc): [ours: number, theirs: number] {
  const pair = Buffer.alloc(8);
  orThrow(libc, 'socketpair', libc.socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
  return [pair.readInt32LE(0), pair.readInt32LE(4)];
}

/**
 * Sends descriptors, with a number that identifies them. The kernel keeps them until they are received or the other end is
 * closed, so the caller may close its own at once. Never blocks.
 * @throws NativeError: EAGAIN (too much is unread), EPIPE, ETOOMANYREFS.
 */
export function sendDescriptors(libc: Libc, socket: number, tag: number, fds: readonly number[]): void {
  if (fds.length > MOST) throw new RangeError(`more than ${MOST} descriptors in one message: ${fds.length}`);
  const parcel = new Parcel(libc, CONTROL_HEADER_BYTES + 4 * fds.length);
  parcel.tag.writeUInt32LE(tag);
  parcel.control.writeBigUInt64LE(BigInt(CONTROL_HEADER_BYTES + 4 * fds.length), 0);
  parcel.control.writeInt32LE(SOL_SOCKET, 8);
  parcel.control.writeInt32LE(SCM_RIGHTS, 12);
  for (const [i, fd] of fds.entries()) parcel.control.writeInt32LE(fd, CONTROL_HEADER_BYTES + 4 * i);
  const sent = libc.sendmsg(socket, parcel.header, MSG_DONTWAIT | MSG_NOSIGNAL);
  // Referenced until here, because the kernel reads the memory to which the header points.
  orThrow(libc, 'sendmsg', parcel.tag.length === TAG_BYTES ? sent : -1);
}

/**
 * The next message; undefined when there is none. Its descriptors are closed on exec. Never blocks.
 * @throws NativeError EMFILE when this process has no room for them: then the message and its descriptors are lost.
 */
export function receiveDescriptors(libc: Libc, socket: number): { tag: number; fds: number[] } | undefined {
  const parcel = new Parcel(libc, CONTROL_HEADER_BYTES + 4 * MOST);
  try {
    const length = libc.recvmsg(socket, parcel.header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (orThrow(libc, 'recvmsg', length) < TAG_BYTES) return undefined;
  } catch (error) {
    if (isErrno(error, 'EAGAIN')) return undefined;
    throw error;
  }
  const fds: number[] = [];
  const length = parcel.header.readUInt32LE(AT.controlLength) === 0 ? 0 : parcel.control.readUInt32LE(0);
  for (let at = CONTROL_HEADER_BYTES; at + 4 <= length; at += 4) fds.push(parcel.control.readInt32LE(at));
  const isWhole = (parcel.header.readInt32LE(AT.flags) & MSG_CTRUNC) === 0;
  return { tag: parcel.tag.readUInt32LE(), fds: isWhole ? fds : closeAll(fds) };
}

/** A message header together with the memory to which it points. */
class Parcel {
  readonly header = Buffer.alloc(MESSAGE_BYTES);
  readonly tag = Buffer.alloc(TAG_BYTES);
  readonly control: Buffer;
  readonly #part = Buffer.alloc(16);

  constructor(libc: Libc, controlBytes: number) {
    this.control = Buffer.alloc(Math.ceil(controlBytes / 8) * 8);
    this.#part.writeBigUInt64LE(libc.addressOf(this.tag), 0);
    this.#part.writeBigUInt64LE(BigInt(TAG_BYTES), 8);
    this.header.writeBigUInt64LE(libc.addressOf(this.#part), AT.parts);
    this.header.writeBigUInt64LE(1n, AT.partCount);
    this.header.writeBigUInt64LE(libc.addressOf(this.control), AT.control);
    this.header.writeBigUInt64LE(BigInt(controlBytes), AT.controlLength);
  }
}

function closeAll(fds: readonly number[]): never {
  for (const fd of fds) closeSync(fd);
  throw new NativeError('recvmsg', constants.errno.EMFILE);
}
