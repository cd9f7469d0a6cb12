// The page: a peer that a person can talk through, and that `peer.js` drives.
//
// Driven, it finds `tellRunner` in its window, waits to be started through `window.peer`, and tells every line. By a
// person, it starts by itself; the part after # has the options: #room=lobby&dial=/ip4/127.0.0.1/tcp/9000/ws.
// The rule it keeps: data from peers is shown as text and never as markup, and the page does not grow without bound.

import { startPeer } from './peer.js'

const MOST_LINES = 500
const MOST_CHARACTERS = 2_000

const at = id => document.getElementById(id)
const links = new Map()
let peer
let untold = []

async function start (options) {
  at('room').textContent = options.rooms[0]
  peer = await startPeer(options, line => {
    show(line)
    tell(line)
  })
}

/** Hands lines to the runner, those of one turn together. */
function tell (line) {
  if (window.tellRunner === undefined) return
  untold.push(JSON.stringify(line))
  if (untold.length > 1) return
  setTimeout(() => {
    const lines = untold
    untold = []
    window.tellRunner(lines.join('\n') + '\n')
  })
}

// --- display

const SHOW = {
  online: ({ peer_id }) => { at('id').textContent = peer_id },
  link_up ({ peer_id, address }) {
    links.set(peer_id, address)
    showLinks()
    note(`linked with ${short(peer_id)}`)
  },
  link_down ({ peer_id, reason }) {
    links.delete(peer_id)
    showLinks()
    note(`the link with ${short(peer_id)} is gone: ${reason}`)
  },
  refused: ({ address, stage, code, reason }) => note(`${address}: ${[stage, code, reason].filter(Boolean).join(', ')}`, 'bad'),
  message: ({ author, text, data, name }) => say(author, text ?? `${name}: ${data.length * 0.75} bytes`),
  error: ({ reason }) => note(reason, 'bad')
}

function show (line) {
  SHOW[line.type]?.(line)
}

const short = id => `…${id.slice(-8)}`
const cut = text => text.length > MOST_CHARACTERS ? `${text.slice(0, MOST_CHARACTERS)}…` : text

function element (tag, text, kind = '') {
  const made = document.createElement(tag)
  made.textContent = cut(text)
  made.className = kind
  return made
}

function showLinks () {
  const rows = [...links].map(([id, address]) => element('li', `${short(id)}  ${address.replace(/\/p2p\/.*/, '')}`))
  at('links').replaceChildren(...rows)
  at('count').textContent = `${links.size}`
}

function add (row) {
  at('said').append(row)
  if (at('said').children.length > MOST_LINES) at('said').firstChild.remove()
  row.scrollIntoView?.({ block: 'nearest' })
}

const note = (text, kind) => add(element('li', text, `note ${kind}`))

function say (author, text, kind) {
  const row = element('li', '', kind)
  const name = element('b', short(author))
  name.title = author
  row.append(name, element('span', text))
  add(row)
}

// --- by a person

function onDial (event) {
  event.preventDefault()
  try {
    peer.dial(at('address').value.trim())
  } catch (error) {
    note(error.message, 'bad')
  }
}

function onSay (event) {
  event.preventDefault()
  const text = at('text').value
  if (text === '') return
  peer.say(JSON.stringify({ text }))
  say(peer.id, text, 'own')
  at('text').value = ''
}

async function startByHand () {
  const given = new URLSearchParams(location.hash.slice(1))
  const rooms = given.has('room') ? given.getAll('room') : ['lobby']
  await start({ rooms, dial: given.getAll('dial') })
  at('dial').addEventListener('submit', onDial)
  at('say').addEventListener('submit', onSay)
  at('text').focus()
}

window.peer = {
  start,
  say: lines => lines.forEach(line => peer.say(line)),
  stop: () => peer?.stop()
}
window.addEventListener('pagehide', () => { peer?.stop() })
if (window.tellRunner === undefined) startByHand().catch(error => note(error.message, 'bad'))
