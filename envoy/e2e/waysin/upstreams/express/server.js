// Express as it comes, with files and routes for the same pages. It trusts the
// proxy before it, as an application behind one is told to.
const path = require('node:path')
const cookies = require('cookie-parser')
const express = require('express')

const tree = path.join(__dirname, '..', 'pages')
const app = express()
app.set('trust proxy', true)
app.use(cookies())
app.use(express.static(tree, {
  redirect: false,
  setHeaders: (response, file) => response.set('X-Page', path.basename(file, '.txt') === 'secret' ? 'secret' : path.basename(path.dirname(file)))
}))

const answer = (page) => (request, response) => {
  response.set({ 'X-Page': page, 'X-Method': request.method })
  response.json({
    page,
    method: request.method,
    path: request.path,
    target: request.originalUrl,
    headers: request.headersDistinct,
    cookies: { ...request.cookies },
    trailers: request.trailersDistinct
  })
}
app.all('/public{/*rest}', answer('public'))
app.all('/optional{/*rest}', answer('optional'))
app.all('/admin{/*rest}', answer('admin'))
app.all('/secret', answer('secret'))
app.all('/api{/*rest}', answer('api'))
app.use(answer('other'))
// What Express refuses by itself is no page.
app.use((error, request, response, next) => response.status(error.status || 500).end()) // eslint-disable-line no-unused-vars

const server = app.listen(0, '127.0.0.1', () => {
  console.log(`listening express 127.0.0.1:${server.address().port}`)
  console.log('ready')
})
server.keepAliveTimeout = 600000
