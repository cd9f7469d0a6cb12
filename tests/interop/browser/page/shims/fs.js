// `node:fs` for a browser: reads files of the page's own server synchronously, for the tests over the vectors.

export function readFileSync (url) {
  const request = new XMLHttpRequest()
  request.open('GET', url, false)
  request.send()
  if (request.status !== 200) throw new Error(`${url}: ${request.status}`)
  return request.responseText
}
