import { execFileSync, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** A server's certificate, signed by an authority that is made for one test. Paths. */
export interface Certificates {
  /** For NODE_EXTRA_CA_CERTS of every client. */
  readonly authority: string;
  readonly certificate: string;
  readonly key: string;
}

/** Why no certificates can be made here; undefined when they can. */
export function noCertificates(): string | undefined {
  return spawnSync('openssl', ['version']).status === 0 ? undefined : 'there is no openssl program';
}

/** Makes an authority and a certificate of `localhost` and `127.0.0.1` that it signs, in `dir`. */
export function makeCertificates(dir: string): Certificates {
  const at = (name: string): string => join(dir, name);
  const openssl = (...args: string[]): void => void execFileSync('openssl', args, { stdio: 'pipe' });
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  openssl(
    'req',
    '-x509',
    ...newKey,
    '-keyout',
    at('ca.key'),
    '-out',
    at('ca.pem'),
    '-days',
    '2',
    '-subj',
    '/CN=test authority',
  );
  openssl('req', ...newKey, '-keyout', at('server.key'), '-out', at('server.csr'), '-subj', '/CN=localhost');
  writeFileSync(at('names'), 'subjectAltName=DNS:localhost,IP:127.0.0.1\n');
  const signing = ['-CA', at('ca.pem'), '-CAkey', at('ca.key'), '-CAcreateserial', '-extfile', at('names')];
  openssl('x509', '-req', '-in', at('server.csr'), '-out', at('server.pem'), '-days', '2', ...signing);
  return { authority: at('ca.pem'), certificate: at('server.pem'), key: at('server.key') };
}

/** Arguments of a server with TLS at `port` too; clients need no certificates. */
export function tlsArguments({ authority, certificate, key }: Certificates, port: number): string[] {
  return [
    ['--tls-port', String(port), '--tls-cert-file', certificate, '--tls-key-file', key],
    ['--tls-ca-cert-file', authority, '--tls-auth-clients', 'no', '--tls-replication', 'yes'],
  ].flat();
}
