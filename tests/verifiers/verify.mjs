// Checks recorded requests with the libraries that receivers use. One JSON object a line on stdin:
// {"scheme", "secrets", "public", "headers", "body"}. Every check accepts the request with each of
// the secrets, and refuses it with another body and with another secret.

import { createHmac, createPublicKey, verify as verifySignature } from 'node:crypto';
import { text } from 'node:stream/consumers';

import { verify as github } from '@octokit/webhooks-methods';
import { Webhook as Standard } from 'standardwebhooks';
import Stripe from 'stripe';
import { Webhook as Svix } from 'svix';

const stripe = new Stripe('sk_test_none');
const OTHER = 'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD';

// No library of these two is published: Node's own cryptography, by the schemes' descriptions.
function ed25519(key, headers, body) {
  // The head of a SubjectPublicKeyInfo of an ed25519 key (RFC 8410).
  const head = Buffer.from('302a300506032b6570032100', 'hex');
  const raw = Buffer.from(key.replace(/^whpk_/, ''), 'base64');
  const der = Buffer.concat([head, raw]);
  const publicKey = createPublicKey({ key: der, format: 'der', type: 'spki' });
  const signed = `${headers['webhook-id']}.${headers['webhook-timestamp']}.${body}`;
  return headers['webhook-signature'].split(' ').some((entry) => {
    const [version, signature] = entry.split(',');
    const bytes = Buffer.from(signature, 'base64');
    return version === 'v1a' && verifySignature(null, Buffer.from(signed), publicKey, bytes);
  });
}

function twenty(secret, headers, body) {
  const signed = `${headers['x-twenty-webhook-timestamp']}:${body}`;
  const expected = createHmac('sha256', secret).update(signed).digest('hex');
  return headers['x-twenty-webhook-signature'] === expected;
}

const checks = {
  standard: {
    standardwebhooks: (secret, headers, body) => new Standard(secret).verify(body, headers),
    svix: (secret, headers, body) => new Svix(secret).verify(body, headers),
  },
  ed25519: { crypto: ed25519 },
  twenty: { crypto: twenty },
  stripe: {
    stripe: (secret, headers, body) =>
      stripe.webhooks.constructEvent(body, headers['stripe-signature'], secret),
  },
  github: {
    octokit: (secret, headers, body) => github(secret, body, headers['x-hub-signature-256']),
  },
};

async function accepts(check, ...rest) {
  try {
    return Boolean(await check(...rest));
  } catch {
    return false;
  }
}

let failures = 0;
const lines = (await text(process.stdin)).trim().split('\n');
for (const line of lines) {
  const { scheme, secrets, headers, body } = JSON.parse(line);
  for (const [library, check] of Object.entries(checks[scheme])) {
    const changed = body.replace('"', '" ');
    const other = scheme === 'ed25519' ? `whpk_${Buffer.alloc(32, 9).toString('base64')}` : OTHER;
    const expected = [
      [`refuses another body`, !(await accepts(check, secrets[0], headers, changed))],
      [`refuses another secret`, !(await accepts(check, other, headers, body))],
    ];
    for (const [place, secret] of secrets.entries()) {
      expected.push([`accepts secret ${place + 1}`, await accepts(check, secret, headers, body)]);
    }
    for (const [what, fine] of expected) {
      if (!fine) failures += 1;
      console.log(`${fine ? 'ok' : 'NOT OK'}: ${library} ${what} (${scheme})`);
    }
  }
}
process.exit(failures === 0 && lines.length > 0 ? 0 : 1);
