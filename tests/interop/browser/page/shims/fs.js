// `node:fs` for a browser: reads what the page's own server has, at once, as the tests over the vectors do.

export function readFileSync (url) {
  const request = new XMLHttpRequest()
  request.open('GET', url, false)
  request.send()
  if (request.status !== 200) throw new Error(`${url}: ${request.status}`)
  return request.responseText
}
