// A receiver that verifies signatures (Standard Webhooks), with Node's standard library alone.
//
//   WALHOOK_SECRET=whsec_… node examples/receiver.mjs

import { createHmac, timingSafeEqual } from 'node:crypto';
import { createServer } from 'node:http';
import { gunzipSync } from 'node:zlib';

const TOLERANCE_S = 5 * 60;
const key = Buffer.from((process.env.WALHOOK_SECRET ?? '').replace(/^whsec_/, ''), 'base64');
if (key.length === 0) throw new Error('set WALHOOK_SECRET to the secret of the endpoint');

/** Whether the request comes from whoever knows the secret, unaltered and within five minutes. */
function verify(headers, body) {
  const id = headers['webhook-id'];
  const timestamp = headers['webhook-timestamp'];
  if (!id || !/^\d+$/.test(timestamp ?? '')) return false;
  if (Math.abs(Date.now() / 1000 - Number(timestamp)) > TOLERANCE_S) return false;
  // The exact bytes that were sent, not JSON that was parsed and written again.
  const expected = createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest();
  // Several signatures, separated by spaces, while a secret is rotated.
  return (headers['webhook-signature'] ?? '').split(' ').some((signature) => {
    const [version, value] = signature.split(',', 2);
    const given = Buffer.from(value ?? '', 'base64');
    return version === 'v1' && given.length === expected.length && timingSafeEqual(given, expected);
  });
}

// Keep these in your database, in the transaction that does the work: an event may come again.
const seen = new Set();

createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  if (!verify(request.headers, body)) {
    response.writeHead(401).end();
    return;
  }
  // With `compress`, the compressed bytes are what is signed: unpack after verifying.
  const packed = request.headers['content-encoding'] === 'gzip';
  const content = JSON.parse(packed ? gunzipSync(body) : body);
  // With `batch`, a request holds a list of events.
  for (const event of [content].flat()) {
    if (seen.has(event.id)) continue;
    seen.add(event.id);
    console.log(event.timestamp, event.event, JSON.stringify(event.data));
  }
  response.writeHead(204).end();
}).listen(Number(process.env.PORT ?? 8401), '127.0.0.1');
