// Who the user is, by the headers that Coatcheck sets: a guard for Nest on Express. Copy it with identity.js.
//
//   @UseGuards(SessionGuard) @Roles('admin') // without Roles: every signed-in user
//   @Get('admin') admin(@User() user: SessionUser) { return user.name; }
//
// Headers are believed, not verified: the service must be reachable through Envoy only.
import {
  BadRequestException, CanActivate, createParamDecorator, ExecutionContext, ForbiddenException, HttpException, Injectable,
  SetMetadata, UnauthorizedException,
} from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import { userOf } from './identity';

// SessionUser has the fields, too, by the names of their headers behind the prefix.
export interface SessionUser {
  id: string;
  name?: string;
  roles: string[];
  session?: string;
  [field: string]: string | string[] | undefined;
}

// Roles names the roles of which one is enough.
export const Roles = (...roles: string[]) => SetMetadata('roles', roles);

// Fields names the fields that handlers read.
export const Fields = (...fields: string[]) => SetMetadata('fields', fields);

// Optional lets clients through that are not signed in: User is null then.
export const Optional = () => SetMetadata('optional', true);

export const User = createParamDecorator((_: unknown, context: ExecutionContext) => context.switchToHttp().getRequest().user);

@Injectable()
export class SessionGuard implements CanActivate {
  constructor(private readonly reflector: Reflector) {}

  canActivate(context: ExecutionContext): boolean {
    const read = <T>(name: string): T | undefined => this.reflector.getAllAndOverride<T>(name, [context.getHandler(), context.getClass()]);
    const request = context.switchToHttp().getRequest(), roles = read<string[]>('roles') ?? [];
    try {
      request.user = userOf(request, read<string[]>('fields') ?? []) as SessionUser | null;
    } catch {
      throw refused(context, new BadRequestException());
    }
    if (request.user === null && !(read<boolean>('optional') && roles.length === 0)) throw refused(context, new UnauthorizedException());
    if (roles.length > 0 && !roles.some((role) => request.user.roles.includes(role))) throw refused(context, new ForbiddenException());
    return true;
  }
}

function refused(context: ExecutionContext, error: HttpException): HttpException {
  const response = context.switchToHttp().getResponse();
  response.setHeader('Cache-Control', 'no-store');
  if (error instanceof UnauthorizedException) response.setHeader('WWW-Authenticate', 'Session');
  return error;
}
