import { Controller, Get, Header } from '@nestjs/common';

const PAGE = `This is the HTTP interface of a Belay orchestrator.

Every call but health needs a token:  Authorization: Bearer TOKEN
The token is BELAY_TOKEN, or the file "token" in the data directory.

  curl -H "Authorization: Bearer $(cat .belay/token)" URL/api/executions
  curl URL/health

The routes: /api/docs, and /api/openapi.json for programs. On the command line: belay ps, belay --help
`;

/** Tells a person with a browser what this address is. It reveals nothing of the fleet. */
@Controller()
export class RootController {
  @Get()
  @Header('content-type', 'text/plain; charset=utf-8')
  page(): string {
    return PAGE;
  }
}
